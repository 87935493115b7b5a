/* Graph cards: one request for all of them, drawn by uPlot, asked again while the page is looked at. */
"use strict";
(() => {
  const host = document.querySelector("[data-graphs]");
  if (!host || !window.uPlot) return;
  const AGAIN = 30000, HEIGHT = 150;
  const color = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
  const probe = document.createElement("span");
  const resolved = (name) => { probe.style.color = `var(--${name})`; document.body.append(probe); const found = getComputedStyle(probe).color; probe.remove(); return found; };
  const scaled = (value, units, step) => {
    let index = 0;
    while (Math.abs(value) >= step && index < units.length - 1) { value /= step; index++; }
    return `${value >= 100 || value === Math.round(value) ? value.toFixed(0) : value.toFixed(1)} ${units[index]}`;
  };
  const words = {
    share: (value) => `${(value * 100).toFixed(value && value < 0.1 ? 1 : 0)} %`,
    bytes: (value) => scaled(value, ["B", "KiB", "MiB", "GiB", "TiB"], 1024),
    rate: (value) => scaled(value, ["B/s", "KiB/s", "MiB/s", "GiB/s"], 1024),
    number: (value) => value.toFixed(value < 10 && value % 1 ? 2 : 0),
  };
  const when = (seconds) => {
    const moment = new Date(seconds * 1000);
    return ["hour", "day"].includes(host.dataset.frame) ? moment.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hour12: false }) : moment.toLocaleDateString([], { month: "short", day: "numeric" });
  };
  const POWERS = Array.from({ length: 52 }, (_, power) => 2 ** power); // bytes stand on 128, 256, 512 MiB, not on 95.4
  const plots = new Map();

  const draw = (figure, data) => {
    const say = words[figure.dataset.unit], body = figure.querySelector("[data-plot]");
    const lines = figure.dataset.lines.split(";").map((line) => line.split("|"));
    const columns = [data.time, ...lines.map(([name]) => data[name] ?? [])];
    const legend = figure.querySelector("[data-legend]");
    const tell = (index) => {
      legend.replaceChildren(...lines.map(([, label, tone], at) => {
        const value = index === null ? columns[at + 1].findLast((each) => each !== null) : columns[at + 1][index];
        const word = document.createElement("span"), dot = document.createElement("i");
        dot.className = `dot tone-${tone}`;
        word.append(dot, `${label} ${value === null || value === undefined ? "–" : say(value)}`);
        return word;
      }));
    };
    const old = plots.get(figure);
    if (old) { old.setData(columns); old.tell = tell; tell(null); return; }
    const binary = ["bytes", "rate"].includes(figure.dataset.unit), least = binary ? 1024 : 1;
    const axis = { stroke: resolved("muted"), grid: { stroke: resolved("border"), width: 1 }, ticks: { show: false }, font: `11px ${color("font")}` };
    const plot = new uPlot({
      width: body.clientWidth, height: HEIGHT, legend: { show: false }, padding: [8, 20, 0, 0],
      cursor: { y: false, drag: { x: false, y: false }, sync: { key: "usage" }, points: { size: 5 } },
      scales: { y: { range: (_, low, high) => [0, figure.dataset.unit === "share" ? Math.max(0.05, Math.min(1, high * 1.1)) : (high || least) * 1.1] } },
      axes: [{ ...axis, size: 24, space: 56, values: (_, ticks) => ticks.map(when) }, { ...axis, size: 64, values: (_, ticks) => ticks.map(say), ...(binary && { incrs: POWERS }) }],
      series: [{}, ...lines.map(([, label, tone]) => ({ label, stroke: resolved(tone), width: 1.5, spanGaps: false, points: { show: false } }))],
      hooks: { setCursor: [(self) => self.tell?.(self.cursor.idx)] },
    }, columns, body);
    plot.tell = tell;
    tell(null);
    plots.set(figure, plot);
  };

  const ask = async () => {
    const answer = await fetch(`${host.dataset.graphs}?frame=${host.dataset.frame}`, { headers: { Accept: "application/json" } });
    if (!answer.ok) return;
    const data = await answer.json();
    for (const figure of host.querySelectorAll("[data-graph]")) draw(figure, data);
  };
  const again = () => ask().catch(() => { /* the badge says that the connection is gone */ });

  host.addEventListener("click", (event) => {
    const choice = event.target.closest("[data-frame-choice]");
    if (!choice || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    host.dataset.frame = choice.dataset.frameChoice;
    for (const each of host.querySelectorAll("[data-frame-choice]")) each.removeAttribute("aria-current");
    choice.setAttribute("aria-current", "true");
    history.replaceState(null, "", `?frame=${host.dataset.frame}`);
    again();
  });
  const redraw = () => { for (const plot of plots.values()) plot.destroy(); plots.clear(); again(); };
  new MutationObserver(redraw).observe(document.documentElement, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
  new ResizeObserver(() => {
    for (const [figure, plot] of plots) plot.setSize({ width: figure.querySelector("[data-plot]").clientWidth, height: HEIGHT });
  }).observe(host);
  setInterval(() => { if (!document.hidden) again(); }, AGAIN);
  again();
})();
