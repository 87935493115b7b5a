/* What every console page does besides showing something: ticket, websocket, words, trying again. Every opening asks
   for a fresh ticket, which travels as a websocket subprotocol and never in an address. */
const LONGEST_WAIT = 15, ASK_EVERY = 5000, DEAD_LIMIT = 6;
const UNREACHABLE = 1011, SIGNED_OUT = 4001, NOT_PERMITTED = 4003, IDLE = 4008, TAKEN_OVER = 4009, TOO_MANY = 4029;
const FINAL = { [SIGNED_OUT]: "Signed out", [NOT_PERMITTED]: "No longer permitted", [IDLE]: "Closed: nobody was watching" };

export function remembered(name, value) {
  try {
    if (value === undefined) return localStorage.getItem(`pvelite.console.${name}`);
    localStorage.setItem(`pvelite.console.${name}`, value);
  } catch { /* private mode: it is only not remembered */ }
  return null;
}

/* A signed-out session answers with the login page, a lost right with 403 or 404: no JSON, no point in going on. */
async function ask(address, options) {
  const answer = await fetch(address, { credentials: "same-origin", redirect: "manual", cache: "no-store", ...options });
  if (answer.type === "opaqueredirect" || answer.status === 401) throw Object.assign(new Error(), { final: "Signed out" });
  if (answer.status === 403 || answer.status === 404) throw Object.assign(new Error(), { final: "This console may not be opened; reload the page" });
  if (!answer.ok && answer.status !== 409) throw new Error(`answer ${answer.status}`);
  return { status: answer.status, body: await answer.json() };
}

/* Where a websocket's path is. */
export const address = (path) => `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path}`;
export const dialled = (ticket, path) => new WebSocket(address(path), ["binary", `pvelite.ticket.${ticket}`]);

export class Link {
  /* noun: "screen" or "terminal"; connect(socket) shows what comes, drop() stops showing it. */
  constructor(root, { noun, connect, drop }) {
    Object.assign(this, { root, noun, connect, drop });
    this.find = (selector) => root.querySelector(selector);
    this.vmid = root.dataset.vmid;
    this.viewOnly = root.dataset.viewOnly === "yes";
    this.socket = this.timer = this.lastClose = null;
    this.connected = this.busy = this.over = false;
    this.tries = this.dead = 0;
    this.off = this.find("[data-off]");
    this.listen();
  }

  start() {
    if (this.root.dataset.missing) this.say(this.noun === "terminal" ? "No serial port" : this.root.dataset.missing, "stopped");
    else if (this.root.dataset.running === "yes") this.open();
    else this.say("Guest stopped", "stopped");
  }

  say(text, tone, retry = false) {
    this.find("[data-words]").textContent = text;
    if (this.root.dataset.title) document.title = `${this.root.dataset.title} · ${text}`;
    this.find("[data-state]").className = `state state-badge console-state is-${tone}`;
    this.root.dataset.phase = this.connected ? "connected" : tone;
    this.find("[data-act=reconnect]").hidden = !retry;
    const none = this.connected ? "" : `There is no ${this.noun} now`;
    const reasons = { screen: none, input: none || (this.viewOnly ? "View only is on" : "") };
    for (const button of this.root.querySelectorAll("[data-needs]")) {
      const reason = reasons[button.dataset.needs];
      if (reason) { button.setAttribute("aria-disabled", "true"); button.title = reason; }
      else { button.removeAttribute("aria-disabled"); button.removeAttribute("title"); }
    }
  }

  show(stopped, status) {
    this.off.hidden = !stopped;
    this.find("[data-screen]").hidden = stopped;
    if (stopped && status) this.find("[data-off-words]").textContent = `${this.vmid} (${this.root.dataset.name}) is ${status.toLowerCase()}`;
  }

  async open() {
    if (this.busy || this.socket || this.over) return;
    this.busy = true;
    clearInterval(this.timer);
    this.say("Connecting", "busy");
    try {
      const { status, body } = await this.ticket(this.viewOnly ? { view_only: "1" } : {});
      if (status === 409) await this.refused(body.error);
      else this.dial(body.ticket, body.path);
    } catch (error) {
      this.failed(error);
    } finally {
      this.busy = false;
    }
  }

  /* For one opening; `changes` to what the page usually asks for. 409 with `error` when there is nothing to open. */
  ticket(changes) {
    const found = this.find("[data-ticket]"), form = new FormData(found);
    for (const [name, value] of Object.entries(changes)) form.set(name, value);
    return ask(found.action, { method: "POST", body: form });
  }

  dial(ticket, path) {
    this.show(false);
    this.lastClose = null;
    const socket = this.socket = dialled(ticket, path);
    socket.addEventListener("close", (event) => { if (this.socket === socket) this.lastClose = event; });
    this.connect(socket);
  }

  opened() {
    this.connected = true;
    this.tries = this.dead = 0;
    this.say(this.viewOnly ? "Connected, view only" : "Connected", "running");
  }

  /* What was shown over `socket` has ended; an older one's end means nothing. */
  async ended(socket) {
    if (this.socket !== socket) return;
    this.socket = null;
    this.connected = false;
    const code = this.lastClose?.code ?? 1006;
    if (FINAL[code]) { this.over = code !== IDLE; this.say(FINAL[code], this.over ? "error" : "paused", !this.over); return; }
    if (code === TOO_MANY || code === TAKEN_OVER) { this.say(this.lastClose.reason, "paused", true); return; }
    this.dead = code === UNREACHABLE ? this.dead + 1 : 0;
    if (this.dead >= DEAD_LIMIT) { this.say(`The ${this.noun} does not answer`, "error", true); return; }
    this.say("Connection lost", "busy");
    await this.look();
  }

  /* Is there anything to open? */
  async look() {
    if (this.busy || this.socket || this.over || this.root.dataset.missing) return;
    this.busy = true;
    try {
      const { body } = await ask(this.root.dataset.stateUrl);
      if (body.running) { this.busy = false; this.retry(); } else this.stopped(body.words);
    } catch (error) {
      this.failed(error);
    } finally {
      this.busy = false;
    }
  }

  failed(error) {
    if (error.final) { this.over = true; this.say(error.final, "error"); } else this.retry();
  }

  /* No ticket: it stopped in between, or it runs and shows nothing. */
  async refused(reason) {
    const { body } = await ask(this.root.dataset.stateUrl);
    if (body.running) this.say(reason, "paused", true);
    else this.stopped(body.words);
  }

  stopped(status) {
    clearInterval(this.timer);
    this.tries = 0;
    this.show(true, status);
    this.say("Guest stopped", "stopped");
  }

  retry() {
    let left = Math.min(LONGEST_WAIT, 2 ** this.tries++);
    clearInterval(this.timer);
    const tick = () => {
      if (left <= 0) { clearInterval(this.timer); this.open(); return; }
      this.say(`Reconnecting in ${left--} s`, "busy", true);
    };
    this.timer = setInterval(tick, 1000);
    tick();
  }

  reopen() {
    this.over = this.connected = false;
    this.tries = this.dead = 0;
    clearInterval(this.timer);
    this.socket = null;
    this.drop();
    this.open();
  }

  acts() {
    return {
      reconnect: () => this.reopen(),
      fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : this.root.requestFullscreen()),
      "view-only": (button) => {  // a new connection, so that the server drops the input and not this page alone
        this.viewOnly = !this.viewOnly;
        button.setAttribute("aria-pressed", this.viewOnly);
        if (this.socket) this.reopen();
      },
      window: (button, event) => {
        const screen = this.find("[data-screen]");
        const size = `popup,width=${Math.max(720, screen.clientWidth + 40)},height=${Math.max(560, screen.clientHeight + 100)}`;
        if (window.open(button.href, button.target, size)) event.preventDefault();
      },
    };
  }

  listen() {
    /* In a window of its own there is no htmx to send the form in place. */
    this.find("[data-start]")?.addEventListener("submit", async (event) => {
      if (window.htmx) return;
      event.preventDefault();
      const form = event.target;
      const answer = await fetch(form.action, { method: "POST", body: new FormData(form), headers: { "HX-Request": "true" } });
      this.say(answer.ok ? "Start requested" : "Not started; the VM page says why", answer.ok ? "busy" : "error");
    });
    document.addEventListener("fullscreenchange", () => this.find("[data-act=fullscreen]").setAttribute("aria-pressed", document.fullscreenElement === this.root));
    for (const name of ["pvelite:hint", "pvelite:changed"]) {
      document.addEventListener(name, (event) => {
        const topics = event.detail?.topics;
        if (this.connected || (topics && !topics.includes(`vm-${this.vmid}`))) return;
        if (this.off.hidden) return;  // a retry is counting already
        this.look();
      });
    }
    setInterval(() => { if (!this.off.hidden && !document.hidden) this.look(); }, ASK_EVERY);
    window.addEventListener("online", () => { if (!this.connected && !this.over) this.reopen(); });
  }
}
