// The timeline. Plotly draws axes and zooms; the boxes, of which there may be tens of thousands,
// are painted on a canvas behind it.

const ROW_PIXELS = 30, GAP = 0.3, MOST_FULL_RANKS = 8, TOP = 28, RIGHT = 16;

class Gantt {
  constructor(place, data, units) {
    this.data = data;
    this.units = units;
    this.hidden = new Set();
    this.lanes = data.lanes.map(() => true);
    this.ranks = data.lanes[0].rows.reduce((most, row) => Math.max(most, row.rank), 0) + 1;
    this.beside = this.ranks <= MOST_FULL_RANKS;
    this.end = Math.max(...data.lanes.map((lane) => lane.end));
    this.range = [0, this.end];
    this.kinds = data.kinds.filter(Boolean);
    this.index = data.lanes.map((lane) => byRow(lane));
    this.followers = [];
    const drawing = place.querySelector(".drawing");
    this.canvas = drawing.appendChild(element("canvas"));
    this.plot = drawing.appendChild(element("div"));
    this.addControls(place);
    this.draw();
    this.plot.on("plotly_relayout", (change) => this.zoomed(change));
    this.plot.on("plotly_relayouting", (change) => this.zooming(change));
    this.plot.on("plotly_afterplot", () => this.paint());
    this.plot.addEventListener("mousemove", (event) => this.hover(event));
    this.plot.addEventListener("mouseleave", () => tip.hide());
    theme.listeners.push(() => this.paint());
  }

  addControls(place) {
    const controls = place.querySelector(".controls");
    if (this.lanes.length > 1) {
      ["predicted", "measured"].forEach((name, lane) => toggle(controls, name, name, true, (on) => {
        this.lanes[lane] = on;
        this.draw();
      }));
    }
    if (this.data.lanes.some((lane) => lane.rows.some((row) => !row.compute))) {
      toggle(controls, "beside", "copies and messages", this.beside, (on) => {
        this.beside = on;
        this.draw();
      });
    }
    legend(place.querySelector(".legend"), this.kinds, this.hidden, () => this.paint());
  }

  // Shown rows from top to bottom, each with its place.
  arrange() {
    this.shown = [];
    let top = 0;
    for (let rank = 0; rank < this.ranks; rank++) {
      this.data.lanes.forEach((lane, laneIndex) => {
        if (!this.lanes[laneIndex]) return;
        lane.rows.forEach((row, index) => {
          if (row.rank !== rank || !(row.compute || this.beside)) return;
          this.shown.push({ lane: laneIndex, index, row, top, bottom: top + row.height });
          top += row.height;
        });
        if (this.lanes.every(Boolean) && this.lanes.length > 1 && laneIndex === 0) top += 0.08;
      });
      top += GAP;
    }
    this.height = Math.max(top - GAP, 1);
  }

  // Of many ranks the thin rows have no names; pointing at them tells.
  named() {
    return this.shown.filter(({ row }) => row.compute || this.ranks <= MOST_FULL_RANKS);
  }

  label({ row, lane }) {
    if (!row.compute) return `<span style="font-size:9px">${row.label}</span>`;
    const both = this.lanes.length > 1 && this.lanes.every(Boolean);
    if (both && lane === 1) return `<span style="font-size:10px">measured</span>`;
    return both && row.label === "compute" ? "predicted" : row.label;
  }

  draw() {
    tip.hide();
    this.arrange();
    const layout = baseLayout(TOP + 42 + ROW_PIXELS * this.height, leftMargin());
    layout.hovermode = false;
    layout.xaxis = { ...layout.xaxis, range: this.range.slice(), showgrid: false, ticks: "outside",
      title: { text: this.data.unit, standoff: 6 } };
    layout.yaxis = { range: [this.height, 0], fixedrange: true, zeroline: false, showgrid: false,
      tickmode: "array", tickvals: this.named().map((place) => (place.top + place.bottom) / 2),
      ticktext: this.named().map((place) => this.label(place)) };
    const nothing = { type: "scatter", x: [0], y: [0], mode: "markers", marker: { opacity: 0 } };
    const config = { ...CONFIG,
      modeBarButtonsToRemove: [...CONFIG.modeBarButtonsToRemove, "toImage"] };
    Plotly.react(this.plot, [nothing], layout, config);
    this.paint();
  }

  paint() {
    const width = this.plot.clientWidth - leftMargin() - RIGHT, height = ROW_PIXELS * this.height;
    if (width <= 0) return;
    const sharp = window.devicePixelRatio || 1;
    Object.assign(this.canvas, { width: width * sharp, height: height * sharp });
    this.canvas.style.cssText = `left:${leftMargin()}px;top:${TOP}px;width:${width}px;` +
      `height:${height}px`;
    const pen = this.canvas.getContext("2d");
    pen.scale(sharp, sharp);
    pen.font = "10px system-ui, sans-serif";
    pen.textAlign = "center";
    pen.textBaseline = "middle";
    const styles = getComputedStyle(document.documentElement);
    const look = { scale: width / (this.range[1] - this.range[0]), width,
      idle: styles.getPropertyValue("--idle"), edge: styles.getPropertyValue("--edge"),
      kinds: this.data.kinds.map((kind) => kind && kindLook(pen, kind)) };
    for (const place of this.shown) this.paintRow(pen, place, look);
  }

  paintRow(pen, place, look) {
    const lane = this.data.lanes[place.lane], from = this.range[0];
    const top = ROW_PIXELS * place.top, height = ROW_PIXELS * (place.bottom - place.top);
    const across = (time) => (time - from) * look.scale;
    if (place.row.compute) {
      pen.fillStyle = look.idle;
      const left = Math.max(0, across(0));
      pen.fillRect(left, top, Math.min(look.width, across(lane.end)) - left, height);
    }
    const numbered = [];
    for (const box of this.index[place.lane][place.index]) {
      const kind = lane.kind[box];
      const left = Math.max(0, across(lane.start[box]));
      const right = Math.min(look.width, across(lane.start[box] + lane.length[box]));
      if (right < 0 || left > look.width || this.hidden.has(this.data.kinds[kind].id)) continue;
      pen.fillStyle = look.kinds[kind].fill;
      pen.fillRect(left, top, Math.max(right - left, 0.8), height);
      if (!place.row.compute || right - left < 5) continue;
      pen.fillStyle = look.edge;
      pen.fillRect(left, top, 1, height);
      if (lane.number[box] >= 0) numbered.push([box, left, right]);
    }
    for (const [box, left, right] of numbered) {
      const text = String(lane.number[box]);
      if (right - left < 6.5 * text.length + 3) continue;
      pen.fillStyle = look.kinds[lane.kind[box]].text;
      pen.fillText(text, (left + right) / 2, top + height / 2 + 1);
    }
  }

  zooming(change) {
    const from = change["xaxis.range[0]"], to = change["xaxis.range[1]"];
    if (from === undefined || to === undefined) return;
    this.range = [from, to];
    this.paint();
  }

  zoomed(change) {
    if (!Object.keys(change).some((key) => key.startsWith("xaxis."))) return;
    this.range = change["xaxis.autorange"] ? [0, this.end] : this.plot.layout.xaxis.range.slice();
    this.paint();
    this.followers.forEach((follow) => follow(this.range));
  }

  hover(event) {
    const at = placeUnder(event, this.plot);
    const place = at && this.shown.find((p) => p.top <= at.height && at.height < p.bottom);
    const box = place ? this.boxAt(place, at.time, at.pixel) : -1;
    if (box < 0) return tip.hide();
    tip.show(event, this.words(place, box));
  }

  // The last shown box that has begun, if it runs at a moment or within a pixel of it.
  boxAt(place, time, slack) {
    const lane = this.data.lanes[place.lane], boxes = this.index[place.lane][place.index];
    const last = lastUpTo(boxes.map((box) => lane.start[box]), time + slack);
    for (let i = last; i >= Math.max(0, last - 8); i--) {
      const box = boxes[i];
      const hidden = this.hidden.has(this.data.kinds[lane.kind[box]].id);
      if (!hidden && lane.start[box] + lane.length[box] >= time - slack) return box;
    }
    return -1;
  }

  words(place, box) {
    const lane = this.data.lanes[place.lane], unit = this.data.unit;
    const named = (index) => `${index}: ${this.units[index] || "(start)"}`;
    const kind = this.data.kinds[lane.kind[box]];
    const lines = [kind.name];
    if (this.data.lanes.length > 1) lines[0] += place.lane ? " (measured)" : " (predicted)";
    const first = lane.first[box], last = lane.last[box];
    if (first >= 0) lines.push(`unit ${named(first)}` + (last !== first ? ` to ${named(last)}` : ""));
    if (lane.batch[box] >= 0) {
      lines.push(`stage ${lane.stage[box]}, micro-batch ${lane.batch[box]}`);
    }
    const many = lane.count[box] > 1 ? ` in ${lane.count[box]} instructions` : "";
    const end = lane.start[box] + lane.length[box];
    lines.push(`${number(lane.length[box])} ${unit}${many}`);
    lines.push(`from ${number(lane.start[box])} to ${number(end)} ${unit}`);
    return lines.map((text, index) => ({ text, kind: index ? null : kind }));
  }
}

// Boxes of every row, in order of time.
function byRow(lane) {
  const rows = lane.rows.map(() => []);
  lane.row.forEach((row, box) => rows[row].push(box));
  return rows;
}

// How boxes of a kind are filled, and the colour of numbers on them.
function kindLook(pen, kind) {
  const colour = colourNow(kind);
  const text = isLight(colour) ? "#000000" : "#ffffff";
  if (!kind.hatched) return { fill: colour, text };
  const tile = Object.assign(element("canvas"), { width: 6, height: 6 });
  const brush = tile.getContext("2d");
  brush.fillStyle = colour;
  brush.fillRect(0, 0, 6, 6);
  brush.strokeStyle = "#30363d";
  for (const shift of [-6, 0, 6]) {
    brush.moveTo(shift, 6);
    brush.lineTo(shift + 6, 0);
  }
  brush.stroke();
  return { fill: pen.createPattern(tile, "repeat"), text };
}

function isLight(colour) {
  const [red, green, blue] = [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16));
  return 0.299 * red + 0.587 * green + 0.114 * blue > 130;
}
