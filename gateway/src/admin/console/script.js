"use strict";
// Everything shown comes from /console/data. Names are the users' own words: they become text, never markup.
(() => {
  const SVG = "http://www.w3.org/2000/svg";
  const POINTS = 360;
  const WIDTH = 600, HEIGHT = 100;
  const $ = (selector, of = document) => of.querySelector(selector);

  function el(tag, attributes, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes || {})) {
      if (name in made) made[name] = value;
      else made.setAttribute(name, value);
    }
    made.append(...children);
    return made;
  }
  // Touches the page only where it changes, so that what somebody selects stays selected.
  function say(where, text) { if (where.textContent !== text) where.textContent = text; }

  // ---- numbers, with their units
  const whole = new Intl.NumberFormat("en-US", { maximumFractionDigits: 0 });
  const three = (value) => value === 0 ? "0" : value >= 100 ? whole.format(value) : String(Number(value.toPrecision(3)));
  const known = (value, format) => value === null || value === undefined || Number.isNaN(value) ? "\u2013" : format(value);
  const count = (value) => known(value, (v) => whole.format(v));
  function bytes(value) {
    const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
    let at = 0;
    for (; value >= 1024 && at < units.length - 1; at++) value /= 1024;
    return `${at === 0 ? whole.format(value) : three(value)} ${units[at]}`;
  }
  const seconds = (value) => value >= 1 ? `${three(value)} s` : `${three(value * 1000)} ms`;
  const share = (value) => `${Number((value * 100).toFixed(value > 0.999 && value < 1 ? 2 : 1))} %`;
  const rate = (value) => `${three(value)}/s`;
  const rateOfBytes = (value) => `${bytes(value)}/s`;
  const money = (value) => value === 0 ? "$0" : value < 0.01 ? `$${Number(value.toPrecision(2))}` : `$${new Intl.NumberFormat("en-US", { minimumFractionDigits: 2, maximumFractionDigits: 2 }).format(value)}`;
  function span(of) {
    if (of < 120) return `${of} s`;
    if (of < 7200) return `${Math.floor(of / 60)} min`;
    if (of < 172800) return `${Math.floor(of / 3600)} h`;
    return `${Math.floor(of / 86400)} days`;
  }
  const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", second: "2-digit" });

  // ---- plots
  const PLOTS = [
    { title: "Throughput", format: rateOfBytes, lines: [["in", "bytes_in"], ["out", "bytes_out"]] },
    { title: "Produce latency", format: seconds, lines: [["p50", "produce_p50"], ["p99", "produce_p99"]] },
    { title: "Requests", format: rate, lines: [["produce", "produces"], ["fetch", "fetches"], ["other", "others"], ["errors", "errors"]] },
    { title: "Found in caches", format: share, most: 1, lines: [["memory", "from_memory"], ["memory or disk", "from_cache"]] },
    { title: "Journal appends", format: rate, lines: [["appends", "appends"]] },
    { title: "Journal latency", format: seconds, lines: [["p50", "append_p50"], ["p99", "append_p99"]] },
    { title: "Store requests", format: rate, lines: [["PUT", "puts"], ["GET", "gets"]] },
    { title: "PUT latency", format: seconds, lines: [["p50", "put_p50"], ["p99", "put_p99"]] },
  ];
  let series = {}, points = [], about = null, pointed = null;

  for (const plot of PLOTS) {
    const svg = document.createElementNS(SVG, "svg");
    svg.setAttribute("viewBox", `0 0 ${WIDTH} ${HEIGHT}`);
    svg.setAttribute("preserveAspectRatio", "none");
    svg.setAttribute("role", "img");
    const part = (tag, name) => {
      const made = document.createElementNS(SVG, tag);
      made.setAttribute("class", name);
      svg.append(made);
      return made;
    };
    const grid = part("path", "grid");
    grid.setAttribute("d", `M0 ${HEIGHT / 2}H${WIDTH}`);
    plot.cross = part("path", "cross");
    // The first line is drawn last, over the others.
    plot.paths = plot.lines.map((_, at) => part("path", `l${plot.lines.length - 1 - at}`)).reverse();
    plot.svg = svg;
    plot.top = el("span", { className: "top" });
    plot.values = plot.lines.map(([name]) => {
      const value = el("b", {}, "\u2013");
      return { item: el("li", {}, `${name} `, value), value };
    });
    plot.from = el("span");
    plot.to = el("span");
    const figure = el("figure", { className: "plot" },
      el("div", { className: "head" }, el("h3", {}, plot.title), plot.top),
      el("ul", { className: "legend" }, ...plot.values.map((v) => v.item)),
      svg,
      el("div", { className: "axis", ariaHidden: "true" }, plot.from, plot.to));
    $("#plots").append(figure);
    svg.addEventListener("pointermove", (event) => {
      const box = svg.getBoundingClientRect();
      pointed = (event.clientX - box.left) / box.width;
      drawAll();
    });
    svg.addEventListener("pointerleave", () => { pointed = null; drawAll(); });
  }

  // The next of 1, 2, 5, 10, ... in the unit that the number is shown in.
  function ceiling(value, format) {
    const base = format === rateOfBytes && value > 0 ? 1024 ** Math.max(0, Math.floor(Math.log(value) / Math.log(1024))) : 1;
    const scaled = value / base;
    const ten = 10 ** Math.floor(Math.log10(scaled));
    return base * ten * ([1, 2, 5, 10].find((step) => scaled <= step * ten * 1.0001) || 10);
  }

  function drawAll() {
    if (!about) return;
    const long = POINTS * about.point_ms, from = about.now_ms - long;
    let at = points.length - 1;
    if (pointed !== null) {
      const wanted = from + pointed * long;
      for (let near = Infinity, i = 0; i < points.length; i++) {
        const far = Math.abs(points[i][0] - wanted);
        if (far < near) { near = far; at = i; }
      }
    }
    const shown = points[at];
    for (const plot of PLOTS) draw(plot, from, long, shown);
  }

  function draw(plot, from, long, shown) {
    const columns = plot.lines.map(([, name]) => series[name]);
    let most = 0;
    for (const point of points) for (const column of columns) if (point[column] > most) most = point[column];
    const top = plot.most || (most > 0 ? ceiling(most, plot.format) : 1);
    columns.forEach((column, line) => {
      let path = "", last = null;
      for (const point of points) {
        const value = point[column];
        if (value === null) { last = null; continue; }
        const x = ((point[0] - from) / long * WIDTH).toFixed(1);
        const y = (HEIGHT - 1 - value / top * (HEIGHT - 3)).toFixed(1);
        // Where points are missing there is no line.
        path += last !== null && point[0] - last <= 3 * about.point_ms ? `L${x} ${y}` : `M${x} ${y}h.1`;
        last = point[0];
      }
      plot.paths[line].setAttribute("d", path);
      say(plot.values[line].value, shown ? known(shown[column], plot.format) : "\u2013");
    });
    say(plot.top, most > 0 ? `top ${plot.format(top)}` : "");
    say(plot.from, clock(from));
    say(plot.to, pointed !== null && shown ? clock(shown[0]) : "now");
    const x = pointed !== null && shown ? ((shown[0] - from) / long * WIDTH).toFixed(1) : null;
    plot.cross.setAttribute("d", x === null ? "" : `M${x} 0V${HEIGHT}`);
    const words = plot.values.map((v) => v.item.textContent).join(", ");
    plot.svg.setAttribute("aria-label", `${plot.title} in the last hour: ${words}; at most ${plot.format(most)}`);
  }

  // ---- facts
  const FACTS = [
    ["Kept", [
      ["Size", (a) => bytes(a.totals.kept_bytes)], ["Objects", (a) => count(a.totals.objects)],
      ["Partitions", (a) => count(a.totals.partitions)], ["Connections", (a) => count(a.totals.connections)],
    ]],
    ["Traffic", [
      ["In", (a) => bytes(a.totals.bytes_in)], ["Out", (a) => bytes(a.totals.bytes_out)],
      ["Requests", (a) => count(a.totals.requests)], ["Errors", (a) => count(a.totals.errors)],
    ]],
    ["Caches", [
      ["Found in memory", (a) => shareOf(a, a.totals.from_memory)], ["Found on disk", (a) => shareOf(a, a.totals.from_disk)],
      ["Held in memory", (a) => bytes(a.totals.cached_in_memory)], ["Held on disk", (a) => bytes(a.totals.cached_on_disk)],
    ]],
    ["Journal", [
      ["Appends", (a) => count(a.totals.appends)], ["Append, p50", (a) => known(a.totals.append_p50, seconds)],
      ["Append, p99", (a) => known(a.totals.append_p99, seconds)], ["Position", (a) => count(a.totals.lsn)],
    ]],
    ["Requests and money", [
      ["PUT / GET", (a) => `${count(a.totals.puts)} / ${count(a.totals.gets)}`],
      ["Spent", (a) => money(a.money.usd)],
      ["For each GiB in", (a) => money(a.money.per_gib)],
      ["A month of requests", (a) => money(a.money.requests_month)],
      ["A month of storage", (a) => money(a.money.storage_month)],
    ], (a) => a.money.free ? "What is kept in a folder costs nothing." : `A month goes on as the last ${span(a.money.recent_s)} did.`],
  ];
  function shareOf(a, part) {
    const all = a.totals.from_memory + a.totals.from_disk + a.totals.from_store;
    return all > 0 ? share(part / all) : "\u2013";
  }
  const told = [];
  for (const [title, rows, note] of FACTS) {
    const list = el("dl");
    for (const [name, value] of rows) {
      const where = el("dd", {}, "\u2013");
      list.append(el("dt", {}, name), where);
      told.push([where, value]);
    }
    const box = el("div", { className: "fact" }, el("h3", {}, title), list);
    if (note) {
      const where = el("p");
      box.append(where);
      told.push([where, note]);
    }
    $("#facts").append(box);
  }

  // ---- tables
  const topics = {
    root: $("#topics"), by: "name", down: false, open: null, one: "topic", many: "topics",
    columns: [
      { name: "Topic", by: "name", value: (row) => row.name },
      { name: "Partitions", by: "partitions", value: (row) => count(row.partitions) },
      { name: "Records", by: "records", value: (row) => count(row.records) },
      { name: "Size", by: "bytes", value: (row) => bytes(row.bytes) },
      { name: "Extents", value: (row) => count(row.extents), wide: true },
    ],
    detail: (answer) => {
      const of = answer.topic;
      if (!of) return null;
      if (!of.partitions) return { name: of.name, parts: [] };
      const columns = [
        { name: "Partition", value: (row) => count(row.partition) }, { name: "Start", value: (row) => count(row.start) },
        { name: "End", value: (row) => count(row.end) }, { name: "Size", value: (row) => bytes(row.bytes) },
        { name: "Extents", value: (row) => count(row.extents), wide: true },
      ];
      return { name: of.name, parts: [{ what: "partitions", columns, table: of.partitions }] };
    },
  };
  const groups = {
    root: $("#groups"), by: "name", down: false, open: null, one: "group", many: "groups",
    columns: [
      { name: "Group", by: "name", value: (row) => row.name },
      { name: "State", by: "state", value: (row) => row.state, text: true },
      { name: "Members", value: (row) => count(row.members), wide: true },
      { name: "Partitions", value: (row) => count(row.partitions), wide: true },
      { name: "Lag", by: "lag", value: (row) => (row.at_least ? "\u2265 " : "") + count(row.lag) },
    ],
    detail: (answer) => {
      const of = answer.group;
      if (!of) return null;
      const parts = [];
      if (of.members && of.members.total > 0) {
        const columns = [
          { name: "Member", value: (row) => row.client || row.id }, { name: "Host", value: (row) => row.host, text: true },
          { name: "Instance", value: (row) => row.instance || "\u2013", text: true, wide: true },
        ];
        parts.push({ what: "members", columns, table: of.members });
      }
      const columns = [
        { name: "Topic", value: (row) => row.topic }, { name: "Partition", value: (row) => count(row.partition) },
        { name: "Committed", value: (row) => count(row.committed), wide: true }, { name: "End", value: (row) => count(row.end), wide: true },
        { name: "Lag", value: (row) => count(row.lag) },
      ];
      parts.push({ what: "offsets", columns, table: of.offsets });
      return { name: of.name, parts };
    },
  };
  const SIDES = [topics, groups];

  for (const side of SIDES) {
    side.table = $("table", side.root);
    side.body = $("tbody", side.root);
    side.input = $("input", side.root);
    side.rows = new Map();
    side.heads = side.columns.map((column) => {
      const head = el("th", { scope: "col", className: classes(column, !column.by) });
      if (column.by) {
        const button = el("button", { type: "button" }, column.name);
        button.addEventListener("click", () => {
          side.down = side.by === column.by ? !side.down : column.by !== "name" && column.by !== "state";
          side.by = column.by;
          ask();
        });
        head.append(button);
      } else {
        head.append(column.name);
      }
      $("thead tr", side.root).append(head);
      return head;
    });
    let typing;
    side.input.addEventListener("input", () => { clearTimeout(typing); typing = setTimeout(ask, 200); });
  }

  function classes(column, plain) {
    return [column.text ? "text" : "", column.wide ? "wide" : "", plain ? "plain" : ""].filter(Boolean).join(" ");
  }

  function show(side, table, answer) {
    side.heads.forEach((head, at) => {
      const column = side.columns[at];
      if (column.by === side.by) head.setAttribute("aria-sort", side.down ? "descending" : "ascending");
      else head.removeAttribute("aria-sort");
    });
    $(".none", side.root).hidden = table.total > 0;
    side.table.hidden = table.matching === 0;
    const cut = table.rows.length < table.matching ? `: the first ${count(table.rows.length)} are shown, filter for the others` : "";
    const some = table.matching < table.total ? `${count(table.matching)} of ${count(table.total)}` : count(table.total);
    say($(".count", side.root), table.total > 0 ? some + cut : "");
    const detail = side.detail(answer);
    const wanted = [];
    const kept = new Map();
    for (const row of table.rows) {
      const shown = side.rows.get(row.name) || makeRow(side, row.name);
      kept.set(row.name, shown);
      shown.cells.forEach((cell, at) => say(cell, side.columns[at].value(row)));
      const open = side.open === row.name;
      shown.button.setAttribute("aria-expanded", String(open));
      wanted.push(shown.line);
      if (open) {
        shown.detail ||= el("tr", { className: "detail" }, el("td", { colSpan: side.columns.length }, el("p", {}, "\u2026")));
        if (detail && detail.name === row.name) fill(shown.detail.firstChild, detail);
        wanted.push(shown.detail);
      } else {
        shown.detail = null;
      }
    }
    side.rows = kept;
    if (wanted.length !== side.body.children.length || wanted.some((line, at) => side.body.children[at] !== line)) {
      const focused = document.activeElement;
      side.body.replaceChildren(...wanted);
      if (focused && side.body.contains(focused)) focused.focus();
    }
  }

  function makeRow(side, name) {
    const button = el("button", { type: "button" });
    button.addEventListener("click", () => { side.open = side.open === name ? null : name; ask(); });
    const cells = side.columns.map((column, at) => at === 0 ? button : el("td", { className: classes(column) }));
    const line = el("tr", {}, el("td", {}, button), ...cells.slice(1));
    return { line, cells, button, detail: null };
  }

  function fill(cell, detail) {
    const made = [];
    for (const { what, columns, table } of detail.parts) {
      if (table.rows.length < table.total) made.push(el("p", {}, `The first ${count(table.rows.length)} of ${count(table.total)} ${what}.`));
      if (table.total === 0) {
        made.push(el("p", {}, `No ${what}.`));
        continue;
      }
      const head = el("tr", {}, ...columns.map((column) => el("th", { scope: "col", className: classes(column, true) }, column.name)));
      const lines = table.rows.map((row) => el("tr", {}, ...columns.map((column) => el("td", { className: classes(column) }, column.value(row)))));
      const named = `${what} of ${detail.name}`;
      made.push(el("table", { ariaLabel: named }, el("thead", {}, head), el("tbody", {}, ...lines)));
    }
    if (detail.parts.length === 0) made.push(el("p", {}, "It is gone."));
    cell.replaceChildren(...made);
  }

  // ---- asking
  let asked = 0, timer, lastGood = null;
  async function ask() {
    clearTimeout(timer);
    const turn = ++asked;
    const question = new URLSearchParams({ after: points.length ? points[points.length - 1][0] : 0 });
    for (const side of SIDES) {
      question.set(side.many, side.input.value);
      question.set(`${side.many}_by`, side.by);
      question.set(`${side.many}_down`, String(side.down));
      if (side.open !== null) question.set(side.one, side.open);
    }
    try {
      const answer = await fetch(`/console/data?${question}`, { signal: AbortSignal.timeout(10000), cache: "no-store" });
      if (!answer.ok) throw new Error(`it answers ${answer.status}`);
      const told = await answer.json();
      if (turn === asked) take(told);
    } catch (error) {
      if (turn !== asked) return;
      const since = lastGood ? ` since ${clock(lastGood)}` : "";
      state("bad", `no answer${since}`);
      document.body.dataset.answered = "no";
    }
    if (turn === asked) timer = setTimeout(ask, Math.min(5000, Math.max(1000, about ? about.point_ms : 1000)));
  }

  function state(kind, text) {
    $("#state").className = kind;
    say($("#state"), text);
  }

  function take(answer) {
    about = answer.about;
    lastGood = Date.now();
    series = Object.fromEntries(answer.series.map((name, at) => [name, at + 1]));
    points = points.concat(answer.points).filter((point) => point[0] > about.now_ms - POINTS * about.point_ms);
    state(about.ready ? "good" : "bad", about.ready ? "ready" : "not ready");
    const lines = [
      ["", about.bootstrap], ["node ", String(about.node)], ["up ", span(about.uptime_s)], ["version ", about.version],
      ["cluster ", about.cluster], ["records in ", about.store], ["journal ", about.journal],
      ["gateways ", String(about.gateways)],
    ];
    const list = $("#about");
    if (list.children.length !== lines.length) list.replaceChildren(...lines.map(() => el("li", {}, "", el("b"))));
    lines.forEach(([name, value], at) => {
      const item = list.children[at];
      if (item.firstChild.data !== name) item.firstChild.data = name;
      say(item.lastChild, value);
    });
    document.title = `StreamHouse ${about.bootstrap}`;
    say($("#try-produce"), `echo hello | kcat -b ${about.bootstrap} -P -t greetings`);
    const first = answer.topics.rows.length ? answer.topics.rows[0].name : "greetings";
    say($("#try-group"), `kcat -b ${about.bootstrap} -o beginning -G readers ${first}`);
    for (const [where, value] of told) say(where, value(answer));
    show(topics, answer.topics, answer);
    show(groups, answer.groups, answer);
    drawAll();
    document.body.dataset.answered = "yes";
  }

  // ---- light and dark
  const THEMES = ["auto", "light", "dark"];
  function theme(name) {
    if (name === "auto") delete document.documentElement.dataset.theme;
    else document.documentElement.dataset.theme = name;
    say($("#theme"), `Theme: ${name}`);
  }
  let chosen = "auto";
  try { chosen = localStorage.getItem("theme") || "auto"; } catch { /* it may be forbidden to keep anything */ }
  if (!THEMES.includes(chosen)) chosen = "auto";
  theme(chosen);
  $("#theme").addEventListener("click", () => {
    chosen = THEMES[(THEMES.indexOf(chosen) + 1) % THEMES.length];
    theme(chosen);
    try { localStorage.setItem("theme", chosen); } catch { /* as above */ }
  });

  // Nobody looks at a hidden page.
  document.addEventListener("visibilitychange", () => { if (document.hidden) { asked++; clearTimeout(timer); } else ask(); });
  ask();
})();
