"use strict";
// The charts of the report: no library, no network. Colours follow the order in which the models were given.
const data = JSON.parse(document.getElementById("data").textContent);
const COLORS = ["#4269d0", "#e8853d", "#2f9e58", "#d6455d", "#8d5bd1", "#1f9aa8", "#b0832f", "#d362a8", "#6f7f95", "#7aa63a"];
const SHAPES = ["circle", "square", "triangle", "diamond", "cross"];
const color = model => COLORS[Math.max(0, data.order.indexOf(model)) % COLORS.length];
const shape = model => SHAPES[Math.max(0, data.order.indexOf(model)) % SHAPES.length];
const dash = model => data.order.indexOf(model) >= COLORS.length ? "5 3" : null;

// -- elements and numbers
function svg(name, attributes = {}, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) if (value !== null) element.setAttribute(key, value);
  element.append(...children.filter(c => c !== null));
  return element;
}
function html(name, attributes = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  element.append(...children);
  return element;
}
function short(x) {
  for (const [suffix, unit] of [["T", 1e12], ["G", 1e9], ["M", 1e6], ["k", 1e3]])
    if (Math.abs(x) >= 0.9995 * unit) return trim(x / unit) + suffix;
  return trim(x);
}
const trim = x => String(Number(Number(x).toPrecision(3)));
const quality = x => data.share ? (100 * x).toFixed(1) : x.toFixed(3);
const axisQuality = x => data.share ? trim(100 * x) : trim(x);

// -- scales
function linear([low, high], [a, b]) {
  const span = high - low || 1;
  const scale = x => a + (x - low) / span * (b - a);
  scale.invert = p => low + (p - a) / (b - a) * span;
  scale.ticks = n => {
    const rough = span / n, power = 10 ** Math.floor(Math.log10(rough));
    const step = [1, 2, 2.5, 5, 10].map(m => m * power).find(s => s >= rough * 0.999);
    const ticks = [];
    for (let t = Math.ceil(low / step - 1e-9) * step; t <= high + 1e-9 * span; t += step) ticks.push(Math.abs(t) < 1e-12 ? 0 : t);
    return ticks;
  };
  return scale;
}
function logarithmic([low, high], [a, b]) {
  const inner = linear([Math.log10(low), Math.log10(high)], [a, b]);
  const scale = x => inner(Math.log10(x));
  scale.invert = p => 10 ** inner.invert(p);
  scale.ticks = n => {
    for (const digits of [[1], [1, 3], [1, 2, 5], [1, 1.5, 2, 3, 4, 5, 7]]) {
      const ticks = [];
      for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
        for (const d of digits) if (d * 10 ** e >= low * 0.999 && d * 10 ** e <= high * 1.001) ticks.push(d * 10 ** e);
      if (ticks.length >= Math.min(3, n)) return ticks;
    }
    return linear([low, high], [0, 1]).ticks(4);
  };
  return scale;
}
// Logarithmic where the values span more than a factor of three.
function scaleFor(values, range, room) {
  const low = Math.min(...values), high = Math.max(...values);
  if (low > 0 && high / low > 3) return logarithmic([low / (high / low) ** room, high * (high / low) ** room], range);
  const pad = (high - low) * room || Math.abs(high) * 0.1 || 1;
  return linear([low - pad, high + pad], range);
}

// The metric's own axis: never beyond what a share can be, and never without extent.
function qualityScale(values, range, room) {
  let low = Math.min(...values), high = Math.max(...values);
  const pad = (high - low) * room || (data.share ? 0.05 : Math.abs(high) * 0.05 || 1);
  [low, high] = [low - pad, high + pad];
  return linear(data.share ? [Math.max(0, low), Math.min(1, high)] : [low, high], range);
}

// -- tooltips: one for the page, filled by whatever is pointed at
const tip = html("div", { id: "tip", role: "status" });
document.body.append(tip);
function showTip(content, x, y) {
  tip.replaceChildren(...[].concat(content));
  tip.style.opacity = 1;
  const box = tip.getBoundingClientRect();
  tip.style.left = Math.max(8, Math.min(x + 14, innerWidth - box.width - 8)) + "px";
  tip.style.top = (y + 18 + box.height > innerHeight ? y - box.height - 12 : y + 18) + "px";
}
const hideTip = () => { tip.style.opacity = 0; };
for (const [enter, leave] of [["pointerover", "pointerout"], ["focusin", "focusout"]]) {
  document.addEventListener(enter, event => {
    const target = event.target.closest?.("[data-tip]");
    if (!target) return;
    const box = target.getBoundingClientRect();
    showTip(target.dataset.tip, event.clientX ?? box.left, event.clientY ?? box.bottom - 10);
  });
  document.addEventListener(leave, event => { if (event.target.closest?.("[data-tip]")) hideTip(); });
}

// -- drawing
function mark(model, x, y, size, attributes = {}) {
  const s = size, path = {
    circle: `M${-s},0a${s},${s} 0 1,0 ${2 * s},0a${s},${s} 0 1,0 ${-2 * s},0`,
    square: `M${-s * .9},${-s * .9}h${s * 1.8}v${s * 1.8}h${-s * 1.8}z`,
    triangle: `M0,${-s * 1.2}L${s * 1.1},${s * .8}H${-s * 1.1}z`,
    diamond: `M0,${-s * 1.25}L${s * 1.15},0L0,${s * 1.25}L${-s * 1.15},0z`,
    cross: `M${-s},${-s * .4}h${s * .6}v${-s * .6}h${s * .8}v${s * .6}h${s * .6}v${s * .8}h${-s * .6}v${s * .6}h${-s * .8}v${-s * .6}h${-s * .6}z`,
  }[shape(model)];
  return svg("path", { d: path, transform: `translate(${x},${y})`, fill: color(model), class: "mark", ...attributes });
}
function axes(chart, x, y, area, xFormat, yFormat, xTitle, xTicks = x.ticks(5)) {
  for (const t of y.ticks(5)) {
    chart.append(svg("line", { x1: area.left, x2: area.right, y1: y(t), y2: y(t), class: "grid" }),
      svg("text", { x: area.left - 7, y: y(t) + 4, "text-anchor": "end" }, yFormat(t)));
  }
  for (const t of xTicks) chart.append(
    svg("line", { x1: x(t), x2: x(t), y1: area.bottom, y2: area.bottom + 4, class: "axis" }),
    svg("text", { x: x(t), y: area.bottom + 17, "text-anchor": "middle" }, xFormat(t)));
  chart.append(svg("line", { x1: area.left, x2: area.right, y1: area.bottom, y2: area.bottom, class: "axis" }),
    svg("text", { x: area.right, y: area.bottom + 34, "text-anchor": "end" }, xTitle));
}
function panel(title, width, height) {
  const chart = svg("svg", { viewBox: `0 0 ${width} ${height}`, class: "chart", role: "img", "aria-label": title });
  return [html("div", { class: "panel" }, html("h3", {}, title), chart), chart];
}

// -- quality against cost
const better = (a, b) => data.higher ? a > b : a < b;
function front(points) {
  const best = [];
  for (const p of [...points].sort((a, b) => a.cost - b.cost || (better(a.mean, b.mean) ? -1 : 1)))
    if (!best.length || better(p.mean, best[best.length - 1].mean)) best.push(p);
  return best;
}
function paretoPanel(key, title, format, unit) {
  const width = 372, height = 292, area = { left: 46, right: width - 12, top: 12, bottom: height - 42 };
  const points = data.rows.filter(r => r[key] !== null).map(r => ({ ...r, cost: r[key] * unit }));
  const [box, chart] = panel(`${data.metric} against ${title}`, width, height);
  if (!points.length) return box;
  const x = scaleFor(points.map(p => p.cost), [area.left + 8, area.right - 8], 0.16);
  const span = points.flatMap(p => [p.low ?? p.mean, p.high ?? p.mean, p.mean]);
  const y = qualityScale(span, data.higher ? [area.bottom, area.top] : [area.top, area.bottom], 0.06);
  axes(chart, x, y, area, format, axisQuality, title);
  const best = front(points);
  let line = `M${x(best[0].cost)},${y(best[0].mean)}`;
  best.slice(1).forEach(p => { line += `H${x(p.cost)}V${y(p.mean)}`; });
  chart.append(svg("path", { d: line + `H${area.right}`, class: "front" }));
  const taken = points.map(p => [x(p.cost) - 8, y(p.mean) - 8, 16, 16]);
  for (const p of points) if (p.low !== null) chart.append(svg("line", {
    x1: x(p.cost), x2: x(p.cost), y1: y(p.low), y2: y(p.high), stroke: color(p.model), "stroke-width": 2, opacity: .45 }));
  for (const p of points) {
    const words = `${p.model}\n${data.metric} ${quality(p.mean)}` + (p.low === null ? "" : ` (${quality(p.low)} to ${quality(p.high)})`)
      + `\n${title}: ${format(p.cost)}` + (best.includes(p) ? "\non the Pareto front" : "");
    chart.append(mark(p.model, x(p.cost), y(p.mean), 6, { "data-tip": words, tabindex: 0 }));
    label(chart, p.model, x(p.cost), y(p.mean), area, taken);
  }
  return box;
}
// A name beside its point, where it covers neither a point nor another name; where there is no such place, none.
function label(chart, name, x, y, area, taken) {
  const width = name.length * 6.5, free = [[10, 4, "start"], [-10, 4, "end"], [0, -11, "middle"], [0, 20, "middle"],
    [9, -7, "start"], [9, 15, "start"], [-9, -7, "end"], [-9, 15, "end"], [0, -25, "middle"], [0, 34, "middle"]];
  for (const [dx, dy, anchor] of free) {
    const left = x + dx - (anchor === "end" ? width : anchor === "middle" ? width / 2 : 0);
    const box = [left, y + dy - 10, width, 13];
    const inside = left >= area.left && left + width <= area.right + 10 && box[1] >= 0 && box[1] + 13 <= area.bottom;
    const clear = taken.every(([a, b, w, h]) => left > a + w || left + width < a || box[1] > b + h || box[1] + 13 < b);
    if (!inside || !clear) continue;
    taken.push(box);
    chart.append(svg("text", { x: x + dx, y: y + dy, "text-anchor": anchor, class: "name" }, name));
    return;
  }
}

// -- learning curves
const X_AXES = [["steps", 0, short], ["seconds", 1, trim], ["operations", 2, short]];
const state = { axis: X_AXES[0], hidden: new Set() };
// Every seed on one grid, then mean and range over the seeds that reach so far.
function gather(runs, key, column) {
  const lines = runs.map(r => r[key].map(p => [p[column], p[3]])).filter(l => l.length);
  if (!lines.length) return [];
  const grid = [...new Set(lines.flatMap(l => l.map(p => p[0])))].sort((a, b) => a - b);
  const every = Math.max(1, Math.ceil(grid.length / 160));
  return grid.filter((_, i) => i % every === 0 || i === grid.length - 1).map(x => {
    const values = lines.filter(l => x >= l[0][0] && x <= l[l.length - 1][0]).map(l => {
      const k = l.findIndex(p => p[0] >= x), [b, a] = [l[k], l[Math.max(0, k - 1)]];
      return b[0] === a[0] ? b[1] : a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0]);
    });
    return values.length < Math.min(2, lines.length) ? null
      : { x, mean: values.reduce((s, v) => s + v, 0) / values.length, low: Math.min(...values), high: Math.max(...values) };
  }).filter(p => p !== null);
}
function curvePanel(key, title, format) {
  const width = 570, height = 316, area = { left: 50, right: width - 10, top: 12, bottom: height - 42 };
  const [box, chart] = panel(title, width, height), [name, column, xFormat] = state.axis;
  const curves = data.order.filter(m => data.curves[m] && !state.hidden.has(m))
    .map(m => ({ model: m, points: gather(data.curves[m], key, column) })).filter(c => c.points.length);
  if (!curves.length) return box;
  const all = curves.flatMap(c => c.points), x = linear([0, Math.max(...all.map(p => p.x))], [area.left, area.right]);
  const values = all.flatMap(p => [p.low, p.high]);
  const y = key === "loss" ? scaleFor(values, [area.bottom, area.top], 0.02)
    : qualityScale(values, [area.bottom, area.top], 0.02);
  axes(chart, x, y, area, xFormat, format, name);
  for (const { model, points } of curves) {
    const up = points.map(p => `${x(p.x).toFixed(1)},${y(p.high).toFixed(1)}`), down = [...points].reverse().map(p => `${x(p.x).toFixed(1)},${y(p.low).toFixed(1)}`);
    chart.append(svg("path", { d: `M${up.join("L")}L${down.join("L")}Z`, fill: color(model), opacity: .09 }),
      svg("path", { d: "M" + points.map(p => `${x(p.x).toFixed(1)},${y(p.mean).toFixed(1)}`).join("L"), fill: "none", stroke: color(model), "stroke-width": 2, "stroke-linejoin": "round", "stroke-dasharray": dash(model) }));
  }
  const cross = svg("line", { y1: area.top, y2: area.bottom, class: "cross", visibility: "hidden" });
  chart.append(cross, svg("rect", { x: area.left, y: area.top, width: area.right - area.left, height: area.bottom - area.top, fill: "transparent" }));
  chart.addEventListener("pointermove", event => {
    const bounds = chart.getBoundingClientRect(), at = x.invert((event.clientX - bounds.left) / bounds.width * width);
    const near = curves.map(c => ({ model: c.model, p: c.points.reduce((a, b) => Math.abs(b.x - at) < Math.abs(a.x - at) ? b : a) }));
    near.sort((a, b) => key === "valid" && data.higher ? b.p.mean - a.p.mean : a.p.mean - b.p.mean);
    cross.setAttribute("x1", x(at)); cross.setAttribute("x2", x(at)); cross.setAttribute("visibility", "visible");
    const exact = key === "loss" ? v => v.toPrecision(3) : quality;
    showTip([html("div", {}, `${xFormat(at)} ${name}`), ...near.map(({ model, p }) => {
      const swatch = html("i"); swatch.style.background = color(model);
      return html("div", { class: "row" }, html("span", {}, swatch, model), html("b", {}, exact(p.mean)));
    })], event.clientX, event.clientY);
  });
  chart.addEventListener("pointerleave", () => { cross.setAttribute("visibility", "hidden"); hideTip(); });
  return box;
}
function drawCurves() {
  const place = document.getElementById("curves");
  if (!place) return;
  const axis = html("span", { class: "segmented" }, ...X_AXES.map(a => {
    const button = html("button", { "aria-pressed": a === state.axis }, a[0]);
    button.onclick = () => { state.axis = a; drawCurves(); };
    return button;
  }));
  const legend = html("span", { class: "legend" }, ...data.order.filter(m => data.curves[m]).map(m => {
    const swatch = html("i", { class: "swatch" }), button = html("button", { "aria-pressed": !state.hidden.has(m) }, swatch, m);
    swatch.style.background = color(m);
    button.onclick = () => { state.hidden.has(m) ? state.hidden.delete(m) : state.hidden.add(m); drawCurves(); };
    return button;
  }));
  place.replaceChildren(html("div", { class: "controls" }, axis, legend), html("div", { class: "panels" },
    curvePanel("valid", `${data.metric} on the validation part`, axisQuality), curvePanel("loss", "training loss (nats)", trim)));
}

// -- the sweep: one small panel per model on common scales
function drawSweep() {
  const place = document.getElementById("sweep"), runs = data.sweep.filter(s => s.loss !== null);
  if (!place || !runs.length) return place?.closest("section").remove();
  place.className = "panels small";
  const losses = runs.map(s => s.loss), rates = data.sweep.map(s => s.rate);
  for (const model of data.order) {
    const mine = runs.filter(s => s.model === model), row = data.rows.find(r => r.model === model);
    if (!mine.length) continue;
    const width = 270, height = 170, area = { left: 40, right: width - 10, top: 10, bottom: height - 38 };
    const [box, chart] = panel(model, width, height);
    const x = scaleFor(rates, [area.left + 6, area.right - 6], 0.1), y = scaleFor(losses, [area.bottom, area.top], 0.08);
    axes(chart, x, y, area, t => t.toExponential(0).replace("+", ""), trim, "rate", [...new Set(rates)]);
    const budgets = [...new Set(mine.map(s => s.budget))];
    budgets.forEach((budget, k) => {
      const points = mine.filter(s => s.budget === budget).sort((a, b) => a.rate - b.rate);
      chart.append(svg("path", { d: "M" + points.map(p => `${x(p.rate)},${y(p.loss)}`).join("L"), fill: "none", stroke: color(model), "stroke-width": 2, opacity: k === budgets.length - 1 ? 1 : .45 }));
      for (const p of points) chart.append(svg("circle", { cx: x(p.rate), cy: y(p.loss), r: 4, fill: color(model), class: "mark",
        "data-tip": `${model}, rate ${p.rate}\nvalidation loss ${p.loss.toPrecision(4)} after ${p.steps} steps`, tabindex: 0 }));
      if (k === budgets.length - 1 && row) for (const p of points.filter(q => q.rate === row.rate))
        chart.append(svg("circle", { cx: x(p.rate), cy: y(p.loss), r: 8, fill: "none", stroke: color(model), "stroke-width": 2 }));
    });
    place.append(box);
  }
}

// -- the table and the page
function sortable(table) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, k) => head.addEventListener("click", () => {
    const up = head.getAttribute("aria-sort") === "descending" || (head.ariaSort === null && k === 0);
    const value = row => { const c = row.cells[k]; return !c ? Infinity : c.dataset.value !== undefined ? +c.dataset.value : c.textContent; };
    const rows = [...body.rows].sort((a, b) => { const [p, q] = [value(a), value(b)]; return (p < q ? -1 : p > q ? 1 : 0) * (up ? 1 : -1); });
    heads.forEach(h => h.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", up ? "ascending" : "descending");
    body.append(...rows.filter(r => !r.classList.contains("failed")), ...rows.filter(r => r.classList.contains("failed")));
  }));
}
sortable(document.getElementById("results"));
for (const element of document.querySelectorAll("i.swatch[data-model]")) element.style.background = color(element.dataset.model);
for (const element of document.querySelectorAll("svg.interval")) element.style.color = color(element.dataset.model);
document.getElementById("fronts")?.append(
  paretoPanel("latency", "latency (ms)", trim, 1e3), paretoPanel("parameters", "parameters", short, 1), paretoPanel("operations", "multiply-adds", short, 1));
drawCurves();
drawSweep();
document.getElementById("theme").onclick = () => {
  const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = dark ? "light" : "dark";
};
