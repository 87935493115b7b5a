/* The screen on Summary is drawn while somebody sees it: looked at again only as long as this page is in front. */
const AGAIN = 4000, SOON = 600;

function look() {
  const place = document.getElementById("vm-screen");
  if (place && !document.hidden) window.htmx.trigger(place, "look");
  setTimeout(look, place?.querySelector("[data-pending]") ? SOON : AGAIN);
}

setTimeout(look, SOON);
document.addEventListener("visibilitychange", () => {
  const place = document.getElementById("vm-screen");
  if (place && !document.hidden) window.htmx.trigger(place, "look");
});
