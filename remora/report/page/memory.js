// Memory of every rank over time, stacked by kind, under the budget; and all peaks side by side.

const MOST_PANELS = 4;

class Memory {
  constructor(place, data) {
    this.data = data;
    this.hidden = new Set();
    this.measured = true;
    this.kinds = data.kinds.slice().reverse();
    this.panels = [];
    this.addControls(place);
    const all = data.ranks.map((_, rank) => rank);
    if (data.ranks.length > 1) this.drawPeaks(place);
    const shown = all.length <= MOST_PANELS ? all : [this.fullest()];
    const panels = place.querySelector(".panels");
    for (const rank of shown) panels.append(this.panel(rank));
    this.panels.forEach((panel) => this.draw(panel));
  }

  fullest() {
    const heights = this.data.ranks.map((rank) => rank.atPeak.reduce((a, b) => a + b, 0));
    return heights.indexOf(Math.max(...heights));
  }

  addControls(place) {
    const controls = place.querySelector(".controls");
    if (this.data.ranks.some((rank) => rank.measured)) {
      toggle(controls, "memory-measured", "measured", true, (on) => {
        this.measured = on;
        this.panels.forEach((panel) => this.redraw(panel));
      });
    }
    if (this.data.ranks.length > MOST_PANELS) {
      const label = element("label", {}, "rank ");
      this.choice = element("select", { "data-choice": "rank" });
      this.data.ranks.forEach((rank, index) => {
        this.choice.append(element("option", { value: index }, `${index}: peak ${rank.peak}`));
      });
      this.choice.value = this.fullest();
      this.choice.addEventListener("change", () => this.show(Number(this.choice.value)));
      label.append(this.choice);
      controls.append(label);
    }
    const entries = place.querySelector(".legend");
    legend(entries, this.data.kinds, this.hidden, () => {
      this.panels.forEach((panel) => this.redraw(panel));
      this.redrawPeaks();
    });
    const budget = element("span", { class: "note" });
    const above = this.data.budgetInSight ? "" : " (above the picture)";
    budget.append(element("span", { class: "swatch line" }), this.data.budgetName + above);
    entries.append(budget);
    if (this.data.ranks.some((rank) => rank.measured)) {
      const measured = element("span", { class: "note" });
      measured.append(element("span", { class: "swatch line solid" }), "measured level");
      entries.append(measured);
    }
  }

  panel(rank) {
    const box = element("div"), title = element("h3"), plot = element("div", { class: "drawing" });
    box.append(title, plot);
    this.panels.push({ rank, title, plot });
    return box;
  }

  show(rank) {
    const panel = this.panels[0];
    panel.rank = rank;
    this.redraw(panel);
  }

  traces(rank) {
    const { data } = this;
    const own = data.ranks[rank];
    const spread = (levels) => Array.isArray(levels) ? levels : own.times.map(() => levels);
    const traces = data.kinds.map((kind, index) => {
      const levels = spread(own.levels[index]);
      const visible = !this.hidden.has(kind.id);
      return { uid: kind.id, type: "scatter", mode: "lines", stackgroup: "memory", name: kind.name,
        x: own.times, y: levels, visible, fillcolor: kind.colour,
        hoverinfo: "skip",
        line: { shape: "hv", width: 0.4, color: kind.colour, simplify: false } };
    });
    if (own.measured && this.measured) {
      traces.push({ uid: "measured", type: "scatter", mode: "lines", name: "measured",
        x: own.measured[0], y: own.measured[1],
        hoverinfo: "skip", line: { width: 2, color: "#1b1f24", simplify: false, shape: "hv" } });
    }
    traces.push({ uid: "budget", type: "scatter", mode: "lines", x: [0, data.end],
      y: [data.budget, data.budget], hoverinfo: "skip",
      line: { dash: "dash", width: 2, color: "#1b1f24" } });
    return traces;
  }

  panelLayout() {
    const alone = this.panels.length === 1;
    const made = baseLayout(alone ? 360 : 260, alone ? leftMargin() : 58);
    made.hovermode = false;
    made.xaxis = { ...made.xaxis, range: this.range || [0, this.data.end],
      title: { text: this.data.timeUnit, standoff: 6 } };
    made.yaxis = { ...made.yaxis, range: [0, this.data.top], fixedrange: true,
      title: { text: this.data.unit } };
    return made;
  }

  entitle(panel) {
    const own = this.data.ranks[panel.rank];
    const name = this.data.ranks.length > 1 ? `rank ${panel.rank}: peak` : "peak";
    const measured = own.measuredPeak ? `, measured ${own.measuredPeak}` : "";
    panel.title.textContent = `${name} ${own.peak}${measured}`;
  }

  draw(panel) {
    this.entitle(panel);
    Plotly.newPlot(panel.plot, this.traces(panel.rank), this.panelLayout(), CONFIG);
    panel.plot.addEventListener("mousemove", (event) => this.hover(event, panel));
    panel.plot.addEventListener("mouseleave", () => tip.hide());
  }

  // What the rank holds under the mouse, from the top of the stack down.
  hover(event, panel) {
    const at = placeUnder(event, panel.plot);
    const own = this.data.ranks[panel.rank];
    const sample = at ? lastUpTo(own.times, at.time) : -1;
    if (sample < 0) return tip.hide();
    const level = (levels) => Array.isArray(levels) ? levels[sample] : levels;
    const parts = this.data.kinds.map((kind, i) => ({ kind, bytes: level(own.levels[i]) }))
      .filter(({ kind, bytes }) => bytes > 0 && !this.hidden.has(kind.id)).reverse();
    const all = parts.reduce((sum, part) => sum + part.bytes, 0);
    const unit = this.data.unit;
    const lines = [{ text: `${number(all)} ${unit} at ${number(at.time)} ${this.data.timeUnit}` }];
    if (own.measured && this.measured) {
      const then = lastUpTo(own.measured[0], at.time);
      if (then >= 0) lines.push({ text: `measured: ${number(own.measured[1][then])} ${unit}` });
    }
    lines.push(...parts.map(({ kind, bytes }) => (
      { text: `${kind.name}: ${number(bytes)} ${unit}`, kind })));
    tip.show(event, lines);
  }

  redraw(panel) {
    this.entitle(panel);
    Plotly.react(panel.plot, this.traces(panel.rank), this.panelLayout(), CONFIG);
  }

  // Shows the same stretch of time as the timeline.
  follow(range) {
    this.range = range;
    for (const panel of this.panels) {
      Plotly.relayout(panel.plot, { "xaxis.range": range.slice() });
    }
  }

  peakTraces() {
    const { data } = this;
    const names = data.ranks.map((_, rank) => `rank ${rank}`);
    const bars = data.kinds.map((kind, index) => ({ uid: kind.id, type: "bar", name: kind.name,
      x: names, y: data.ranks.map((rank) => rank.atPeak[index]),
      visible: !this.hidden.has(kind.id), marker: { color: colourNow(kind), line: { width: 0 } },
      hovertemplate: `%{y:.4~g} ${data.unit}` }));
    return bars;
  }

  redrawPeaks() {
    if (this.peaks) Plotly.react(this.peaks, this.peakTraces(), this.peaks.layout, CONFIG);
  }

  drawPeaks(place) {
    this.peaks = place.querySelector(".peaks");
    const made = baseLayout(230, leftMargin());
    made.barmode = "stack";
    made.shapes = [{ type: "line", xref: "paper", x0: 0, x1: 1, y0: this.data.budget,
      y1: this.data.budget, line: { dash: "dash", width: 2 } }];
    made.bargap = 0.35;
    made.hovermode = "x unified";
    made.xaxis = { ...made.xaxis, fixedrange: true };
    made.yaxis = { ...made.yaxis, range: [0, this.data.top], fixedrange: true,
      title: { text: this.data.unit } };
    Plotly.newPlot(this.peaks, this.peakTraces(), made, { ...CONFIG, displayModeBar: false });
    theme.listeners.push(() => this.redrawPeaks());
    if (this.choice) {
      this.peaks.on("plotly_click", (event) => {
        this.choice.value = event.points[0].pointIndex;
        this.show(event.points[0].pointIndex);
      });
    }
  }
}
