// Draws what the page has data for, as soon as it is there.

// Plain pictures: bars of the units, and the front of a sweep.
function drawPlain(id, figure) {
  const plot = document.querySelector(`#${id} .drawing`);
  const entries = element("div", { class: "legend" });
  for (const kind of figure.legend) {
    const entry = element("span", { class: "note" });
    entry.append(kind.line ? element("span", { class: `swatch line ${kind.line}` }) : swatch(kind),
      kind.name);
    entries.append(entry);
  }
  plot.before(entries);
  const base = baseLayout(figure.height, leftMargin());
  const layout = { ...base, ...figure.layout,
    xaxis: { ...base.xaxis, ...figure.layout.xaxis },
    yaxis: { ...base.yaxis, ...figure.layout.yaxis } };
  layout.margin = { ...layout.margin, l: leftMargin() };
  Plotly.newPlot(plot, figure.traces, layout, { ...CONFIG, displayModeBar: false });
}

// Buttons that show the row under their own.
function startMore() {
  document.addEventListener("click", (event) => {
    const button = event.target.closest && event.target.closest("button.more");
    if (!button) return;
    const row = document.getElementById(button.getAttribute("aria-controls"));
    row.hidden = !row.hidden;
    button.setAttribute("aria-expanded", String(!row.hidden));
  });
}

function drawAll(data) {
  theme.start();
  startMore();
  let gantt = null;
  if (data.gantt) gantt = new Gantt(document.getElementById("timeline"), data.gantt, data.units);
  if (data.memory) {
    const memory = new Memory(document.getElementById("memory"), data.memory);
    if (gantt) gantt.followers.push((range) => memory.follow(range));
  }
  for (const [id, figure] of Object.entries(data.plain || {})) drawPlain(id, figure);
  document.documentElement.dataset.ready = "true";
}
