/* Fingers on a SPICE screen, as on the noVNC one: tap and drag are the left button, a long press or a second finger
   the right one, two fingers that move the wheel. The client itself knows a mouse only. */
const LONG = 600, SLIP = 8, NOTCH = 30;  // ms; pixels a resting finger trembles; pixels a notch of the wheel

/* mouse: move(event), press(button), release(button), wheel(up); scaled: whether the page needs no finger to scroll. */
export function fingers(canvas, mouse, scaled) {
  let begun = null, state = "none", timer = null, turned = 0;

  const middle = (touches) => ({
    clientX: [...touches].reduce((sum, touch) => sum + touch.clientX, 0) / touches.length,
    clientY: [...touches].reduce((sum, touch) => sum + touch.clientY, 0) / touches.length,
  });
  const click = (button) => { mouse.press(button); mouse.release(button); };

  canvas.addEventListener("touchstart", (event) => {
    if (!scaled()) return;
    event.preventDefault();
    clearTimeout(timer);
    if (state === "drag") mouse.release(0);
    begun = middle(event.touches);
    turned = 0;
    state = event.touches.length === 1 ? "tap" : "second";
    if (state === "tap") {
      mouse.move(begun);
      timer = setTimeout(() => { state = "done"; click(2); }, LONG);
    }
    canvas.focus({ preventScroll: true });
  }, { passive: false });

  canvas.addEventListener("touchmove", (event) => {
    if (state === "none" || !scaled()) return;
    event.preventDefault();
    const now = middle(event.touches);
    if ((state === "tap" || state === "second") && Math.hypot(now.clientX - begun.clientX, now.clientY - begun.clientY) < SLIP) return;
    if (state === "tap") { clearTimeout(timer); mouse.press(0); state = "drag"; }
    if (state === "second") state = "wheel";
    if (state === "drag") mouse.move(now);
    if (state !== "wheel") return;
    const notches = Math.trunc((now.clientY - begun.clientY) / NOTCH);
    for (; turned < notches; turned++) mouse.wheel(true);
    for (; turned > notches; turned--) mouse.wheel(false);
  }, { passive: false });

  const ended = (event) => {
    if (state === "none") return;
    event.preventDefault();
    clearTimeout(timer);
    if (state === "drag") mouse.release(0);
    else if (event.type === "touchend" && state === "tap") click(0);
    else if (event.type === "touchend" && state === "second") click(2);
    state = event.touches.length ? "done" : "none";
  };
  canvas.addEventListener("touchend", ended, { passive: false });
  canvas.addEventListener("touchcancel", ended, { passive: false });
}
