/* Live pages. One WebSocket a tab hears which topics changed; every element with data-topic asks again through
   htmx (hx-trigger="pvelite:changed"). A lost hint only delays: everything is asked again every 30 s and after
   each reconnect. data-topic holds topics parted by blanks; "vm-*" means every VM. data-throttle: milliseconds
   between two refreshes of that element. */
"use strict";
(() => {
  const badge = document.getElementById("live");
  if (!badge) return;
  const POLL = 30000, SILENCE = 40000, STALE = 5000;
  const word = badge.querySelector("[data-word]");
  const last = new WeakMap(), later = new WeakMap();
  let socket = null, tries = 0, lost = 0, heard = Date.now();

  const show = (state) => {
    if (badge.dataset.state === state) return;
    badge.dataset.state = state;
    const since = new Date(lost).toLocaleTimeString([], { hour12: false });
    word.textContent = state === "stale" ? `stale since ${since}` : state;
    badge.title = { live: "Changes appear as they happen", reconnecting: "Connection lost, trying again", stale: "What you see may be out of date" }[state];
  };
  const held = (element) => element.querySelector("details.menu[open], dialog[open]") || (element.contains(document.activeElement) && document.activeElement.matches("input, select, textarea"));
  const refresh = (element) => {
    const gap = Number(element.dataset.throttle ?? 0) - (Date.now() - (last.get(element) ?? 0));
    if (gap > 0 || held(element)) {
      if (!later.has(element)) later.set(element, setTimeout(() => { later.delete(element); if (element.isConnected) refresh(element); }, Math.max(gap, 250)));
      return;
    }
    last.set(element, Date.now());
    htmx.trigger(element, "pvelite:changed");
  };
  // A menu opened while the answer was on its way stays open: the answer is asked for again when it is closed.
  document.addEventListener("htmx:beforeSwap", (event) => {
    const element = event.detail.target;
    if (!element.matches?.("[data-topic]") || event.detail.xhr.status >= 400 || !held(element)) return;
    event.detail.shouldSwap = false;
    refresh(element);
  });
  const wants = (element, topics) => element.dataset.topic.split(/\s+/).some((topic) =>
    topic.endsWith("*") ? topics.some((each) => each.startsWith(topic.slice(0, -1))) : topics.includes(topic));
  const changed = (topics) => {
    for (const element of document.querySelectorAll("[data-topic]")) if (!topics || wants(element, topics)) refresh(element);
    document.dispatchEvent(new CustomEvent("pvelite:hint", { detail: { topics } }));
  };

  const connect = () => {
    const scheme = location.protocol === "https:" ? "wss:" : "ws:";
    socket = new WebSocket(`${scheme}//${location.host}/ws/hints`);
    socket.onopen = () => {
      tries = 0; lost = 0; heard = Date.now(); show("live");
      changed(null);  // what changed between the page's making and now was hinted to nobody
    };
    socket.onmessage = (event) => {
      heard = Date.now();
      const topics = JSON.parse(event.data).topics ?? [];
      if (topics.length) changed(topics);
    };
    socket.onclose = (event) => {
      if (event.code === 4401) { location.reload(); return; }
      lost ||= Date.now();
      show(Date.now() - lost > STALE ? "stale" : "reconnecting");
      const wait = Math.min(10000, 250 * 2 ** tries++) * (0.75 + Math.random() / 2);
      setTimeout(connect, wait);
    };
  };
  connect();

  setInterval(() => {
    if (lost && Date.now() - lost > STALE) show("stale");
    if (socket.readyState === WebSocket.OPEN && Date.now() - heard > SILENCE) socket.close();
  }, 1000);
  setInterval(() => { if (!document.hidden) changed(null); }, POLL);
  document.addEventListener("visibilitychange", () => { if (!document.hidden && Date.now() - heard > POLL) changed(null); });

  // What a fragment showed is gone, which is an answer and no error: say so in its place and stop asking.
  document.addEventListener("htmx:afterRequest", (event) => {
    const element = event.detail.elt;
    if (event.detail.xhr.status !== 404 || !element.matches?.("[data-topic]")) return;
    element.removeAttribute("data-topic");
    const shape = document.getElementById("gone-shape");
    if (shape && element.dataset.gone) {
      const note = shape.content.firstElementChild.cloneNode(true);
      note.querySelector("[data-text]").textContent = element.dataset.gone;
      element.replaceChildren(note);
    }
  });
  // A growing log follows its end while the reader is there.
  const away = new WeakSet();
  const logs = () => document.querySelectorAll("[data-follow]");
  document.addEventListener("scroll", (event) => {
    const log = event.target;
    if (!log.matches?.("[data-follow]")) return;
    if (log.scrollHeight - log.scrollTop - log.clientHeight > 40) away.add(log); else away.delete(log);
  }, true);
  const follow = () => { for (const log of logs()) if (!away.has(log)) log.scrollTop = log.scrollHeight; };
  document.addEventListener("htmx:afterSwap", follow);
  follow();

  // Rows the reader has scrolled to stay where they are.
  const kept = new Map();
  document.addEventListener("htmx:beforeSwap", (event) => {
    for (const box of event.detail.target.querySelectorAll("[data-keep-scroll]")) kept.set(box.dataset.keepScroll, box.scrollTop);
  });
  document.addEventListener("htmx:afterSwap", () => {
    for (const [name, top] of kept) { const box = document.querySelector(`[data-keep-scroll="${name}"]`); if (box) box.scrollTop = top; }
    kept.clear();
  });
})();
