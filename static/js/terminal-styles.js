/* xterm writes <style> elements and style attributes, which our policy forbids as it would an intruder's. The same
   rules through the CSS object model are allowed: this page sends the texts there. Imported before xterm. */
const createElement = document.createElement.bind(document);

/* Stands where xterm wants its <style>: what is written into it becomes a sheet of the page. */
document.createElement = (name, options) => {
  if (name !== "style") return createElement(name, options);
  const stand = createElement("template"), sheet = new CSSStyleSheet();
  document.adoptedStyleSheets.push(sheet);
  Object.defineProperty(stand, "textContent", { set(text) { sheet.replaceSync(text); } });
  return stand;
};

const setAttribute = HTMLElement.prototype.setAttribute;
HTMLSpanElement.prototype.setAttribute = function (name, value) {
  if (name === "style") this.style.cssText = value;
  else setAttribute.call(this, name, value);
};
