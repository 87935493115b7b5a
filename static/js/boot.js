/* Runs before the first paint: the remembered theme and tree width, so that nothing jumps. */
"use strict";
(() => {
  const root = document.documentElement;
  const read = (name) => { try { return localStorage.getItem(name); } catch { return null; } };
  const theme = read("pvelite.theme");
  if (theme === "light" || theme === "dark") root.dataset.theme = theme;
  const width = Number(read("pvelite.tree"));
  if (width >= 180 && width <= 600) root.style.setProperty("--tree", `${width}px`);
  root.dataset.js = "on";
})();
