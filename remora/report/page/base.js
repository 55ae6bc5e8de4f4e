"use strict";
// What all pictures share: theme, legend buttons, layout of axes, redrawing on a new width.

// Nothing is ever sent anywhere.
const CONFIG = { responsive: true, displaylogo: false, showTips: false, showSendToCloud: false,
  plotlyServerURL: "",
  modeBarButtonsToRemove: ["select2d", "lasso2d", "autoScale2d", "hoverClosestCartesian",
    "hoverCompareCartesian", "toggleSpikelines"] };
const CLEAR = "rgba(0,0,0,0)";
const HOVER = { bgcolor: "#ffffff", bordercolor: "#8a949e", font: { color: "#1b1f24", size: 12 } };

function baseLayout(height, left) {
  return { height, margin: { l: left, r: 16, t: 28, b: 42 }, paper_bgcolor: CLEAR,
    plot_bgcolor: CLEAR, font: { family: "system-ui, Segoe UI, DejaVu Sans, sans-serif", size: 12 },
    showlegend: false, hoverlabel: HOVER, dragmode: "zoom",
    xaxis: { zeroline: false, title: { standoff: 6 } }, yaxis: { zeroline: false } };
}

function leftMargin() {
  return window.innerWidth < 700 ? 62 : 92;
}

function element(tag, attributes, text) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes || {})) made.setAttribute(name, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

function swatch(kind) {
  const made = element("span", { class: "swatch" + (kind.hatched ? " hatched" : ""), "aria-hidden": "true" });
  made.style.setProperty("--kind", `var(--kind-${kind.id}, ${kind.colour})`);
  return made;
}

// A row of buttons, one per kind; pressed ones are drawn.
function legend(place, kinds, hidden, changed) {
  for (const kind of kinds) {
    const button = element("button", { type: "button", "aria-pressed": "true",
      "data-kind": kind.id, title: "show or hide " + kind.name });
    button.append(swatch(kind), kind.name);
    button.addEventListener("click", () => {
      const hide = !hidden.has(kind.id);
      if (hide) hidden.add(kind.id); else hidden.delete(kind.id);
      button.setAttribute("aria-pressed", String(!hide));
      changed();
    });
    place.append(button);
  }
}

function toggle(place, name, text, on, changed) {
  const button = element("button", { type: "button", "aria-pressed": String(on),
    "data-toggle": name }, text);
  button.addEventListener("click", () => {
    const now = button.getAttribute("aria-pressed") !== "true";
    button.setAttribute("aria-pressed", String(now));
    changed(now);
  });
  place.append(button);
  return button;
}

// The colour of a kind under the theme of now, for what style sheets cannot reach.
function colourNow(kind) {
  const styles = getComputedStyle(document.documentElement);
  return styles.getPropertyValue(`--kind-${kind.id}`).trim() || kind.colour;
}

const theme = {
  listeners: [],
  wished: matchMedia("(prefers-color-scheme: dark)"),
  kept() {
    try { return localStorage.getItem("remora-theme"); } catch { return null; }
  },
  show(name) {
    document.documentElement.dataset.theme = name;
    const button = document.getElementById("theme");
    if (button) button.textContent = name === "dark" ? "light colours" : "dark colours";
    theme.listeners.forEach((listener) => listener());
  },
  start() {
    const kept = () => theme.kept() || (theme.wished.matches ? "dark" : "light");
    theme.show(kept());
    theme.wished.addEventListener("change", () => theme.show(kept()));
    document.getElementById("theme").addEventListener("click", () => {
      const next = document.documentElement.dataset.theme === "dark" ? "light" : "dark";
      try { localStorage.setItem("remora-theme", next); } catch { /* files may not keep anything */ }
      theme.show(next);
    });
  },
};

const tip = {
  box: null,
  // Lines of text, the first of them strong, each perhaps with the colour of a kind before it.
  show(event, lines) {
    tip.box = tip.box || document.body.appendChild(element("div", { id: "tip", role: "tooltip" }));
    tip.box.replaceChildren();
    lines.forEach(({ text, kind }, index) => {
      const line = element(index ? "div" : "strong");
      if (kind) line.append(swatch(kind));
      line.append(text);
      tip.box.append(line);
    });
    tip.box.style.display = "block";
    const width = tip.box.offsetWidth, height = tip.box.offsetHeight;
    tip.box.style.left = Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 6)) + "px";
    const above = event.clientY + 18 + height > innerHeight;
    tip.box.style.top = (above ? event.clientY - height - 10 : event.clientY + 18) + "px";
  },
  hide() {
    if (tip.box) tip.box.style.display = "none";
  },
};

// Time and height under the mouse; null outside of a drawing's axes.
function placeUnder(event, plot) {
  const area = plot.querySelector(".nsewdrag");
  if (!area) return null;
  const at = area.getBoundingClientRect(), axes = plot._fullLayout;
  const x = event.clientX - at.left, y = event.clientY - at.top;
  if (x < 0 || y < 0 || x > at.width || y > at.height) return null;
  return { time: axes.xaxis.p2d(x), height: axes.yaxis.p2d(y),
    pixel: axes.xaxis.p2d(1) - axes.xaxis.p2d(0) };
}

// The last of ascending values that is not above a limit; -1 if all are.
function lastUpTo(values, limit) {
  let low = 0, high = values.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (values[middle] <= limit) low = middle + 1; else high = middle;
  }
  return low - 1;
}

function number(value) {
  return String(Number(value.toPrecision(4)));
}
