/* ISO upload with progress: the file itself is the request's body, streamed by the browser from disk. */
"use strict";
(() => {
  const form = document.querySelector("[data-upload]");
  if (!form) return;
  const input = form.querySelector("input[type=file]"), bar = form.querySelector("progress");
  const says = form.querySelector("[data-says]"), stop = form.querySelector("[data-abort]"), send = form.querySelector("[type=submit]");
  const token = form.querySelector("[name=csrfmiddlewaretoken]").value;
  let request = null;

  const words = (bytes) => bytes >= 2 ** 30 ? `${(bytes / 2 ** 30).toFixed(2)} GiB` : `${(bytes / 2 ** 20).toFixed(1)} MiB`;
  const say = (text, wrong) => { says.textContent = text; says.classList.toggle("error-text", Boolean(wrong)); };
  const busy = (on) => { bar.hidden = !on; stop.hidden = !on; send.hidden = on; input.disabled = on; };

  const start = (file) => {
    if (!/^[A-Za-z0-9][A-Za-z0-9._+-]*\.(iso|qcow2|img|raw|vmdk)$/i.test(file.name) || file.name.length > 120) {
      say(`"${file.name}" cannot be the name of an ISO or image here: letters, digits and . _ + - only, ending in .iso, .qcow2, .img, .raw or .vmdk.`, true);
      return;
    }
    const began = performance.now();
    request = new XMLHttpRequest();
    request.open("PUT", `${form.action}?filename=${encodeURIComponent(file.name)}`);
    request.setRequestHeader("X-CSRFToken", token);
    request.setRequestHeader("Content-Type", "application/octet-stream");
    request.upload.onprogress = (event) => {
      if (!event.lengthComputable) return;
      const rate = event.loaded / Math.max(0.001, (performance.now() - began) / 1000);
      const left = Math.ceil((event.total - event.loaded) / Math.max(1, rate));
      bar.value = event.loaded / event.total;
      say(event.loaded < event.total
        ? `${Math.floor(100 * event.loaded / event.total)} % · ${words(event.loaded)} of ${words(event.total)} · ${words(rate)}/s · ${left} s left`
        : "Checking what arrived");
    };
    request.onload = () => {
      let body = {};
      try { body = JSON.parse(request.responseText); } catch { /* an answer of a proxy */ }
      busy(false);
      if (request.status === 201) { say(body.text); form.reset(); htmx.trigger("#storage-content", "pvelite:changed"); }
      else say(body.error ?? `The server answered ${request.status}; nothing was kept.`, true);
    };
    request.onerror = () => { busy(false); say("The connection broke; nothing of the file was kept.", true); };
    request.onabort = () => { busy(false); say("Cancelled; nothing of the file was kept."); };
    busy(true);
    bar.value = 0;
    say("Starting");
    request.send(file);
  };

  form.addEventListener("submit", (event) => { event.preventDefault(); if (input.files[0]) start(input.files[0]); });
  stop.addEventListener("click", () => request?.abort());
  form.addEventListener("dragover", (event) => { event.preventDefault(); form.dataset.over = "yes"; });
  form.addEventListener("dragleave", () => { form.dataset.over = "no"; });
  form.addEventListener("drop", (event) => { event.preventDefault(); form.dataset.over = "no"; if (event.dataTransfer.files[0]) start(event.dataTransfer.files[0]); });
  window.addEventListener("beforeunload", (event) => { if (!bar.hidden) event.preventDefault(); });
})();
