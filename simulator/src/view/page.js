'use strict';
// Draws one recorded run. Reads the data element `run`, uses no network and changes nothing else.
(() => {
  const run = JSON.parse(document.getElementById('run').textContent);
  const $ = (id) => document.getElementById(id);
  const K = Object.fromEntries(run.kinds.map((name, i) => [name, i]));
  const LEFT = 150, RIGHT = 10, RULER = 20, ROW = 17, PAIR = 13, NODE = 44, GUEST = 15, GAP = 10;
  // Above so many messages in the window their density is drawn instead.
  const ARROWS = 12000;

  // ---- the entries, out of their columns
  const n = run.entries.at.length;
  const at = new Float64Array(n), cause = new Int32Array(n), kind = new Uint8Array(n);
  const { lane, peer, value, text } = run.entries;
  for (let i = 0, t = 0; i < n; i++) {
    t += run.entries.at[i];
    at[i] = t;
    cause[i] = i - run.entries.cause[i];
    kind[i] = run.entries.kind.charCodeAt(i) - 97;
  }
  const word = (i) => run.texts[text[i]] || '';
  const seconds = (us) => (us / 1e6).toFixed(6);
  const short = (us) => String(Math.round(us / 1000) / 1000);
  const nameOf = (l) => (l < 0 ? '' : run.lanes[l].name);
  const nodeOf = (l) => (l < 0 ? -1 : run.lanes[l].on === null ? l : run.lanes[l].on);
  const esc = (s) => String(s).replace(/[&<>"]/g, (c) =>
    ({ '&': '&amp;', '<': '&lt;', '>': '&gt;', '"': '&quot;' })[c]);

  // Messages: sent entry -> where and when it ended. lost: 1.
  const messages = [];
  const ofSent = new Map();
  for (let i = 0; i < n; i++) {
    if (kind[i] === K.sent) {
      ofSent.set(i, []);
    } else if (kind[i] === K.received || kind[i] === K.lost) {
      const s = cause[i];
      if (!ofSent.has(s)) continue;
      ofSent.get(s).push(i);
      messages.push({ sent: s, end: i, t0: at[s], t1: at[i], a: lane[s], b: peer[s],
        lost: kind[i] === K.lost, type: word(s).split(' ')[0] });
    }
  }
  for (const [s, ends] of ofSent) {
    if (!ends.length) {
      messages.push({ sent: s, end: s, t0: at[s], t1: run.ended, a: lane[s], b: peer[s],
        lost: false, way: true, type: word(s).split(' ')[0] });
    }
  }
  messages.sort((x, y) => x.t0 - y.t0);
  const marks = [];
  for (let i = 0; i < n; i++) {
    if ((kind[i] === K.mark || kind[i] === K['process starts'] || kind[i] === K['process ends'])
      && lane[i] >= 0) marks.push(i);
  }
  const types = new Map();
  for (const m of messages) types.set(m.type, (types.get(m.type) || 0) + 1);
  const hidden = new Set();

  function words(i) {
    const w = word(i), p = nameOf(peer[i]);
    switch (kind[i]) {
      case K.sent: return `sends ${w} to ${p}`;
      case K.received: return `receives ${w} from ${p}`;
      case K.lost: return `${w} to ${p} is lost: ${run.losses[value[i]]}`;
      case K['session up']: return `has a session to ${p}`;
      case K['session down']: return `has lost its session to ${p}`;
      case K.timer: return 'its timer fires';
      case K.stored: return `${w} is durable`;
      case K.link: return `link to ${p} ${['is whole', 'loses or delays',
        'stops some kinds of messages', 'is cut'][value[i] % 4]}`;
      case K.fault: return `FAULT ${value[i] + 1}: ${w}`;
      case K['broken promise']: return `BROKEN ${w}`;
      default: return w || run.kinds[kind[i]];
    }
  }
  const trim = (s, most) => (s.length > most ? s.slice(0, most) + ' …' : s);

  // ---- who was cut from whom: pairs with the same story share a row
  const whole = (net) => net < run.joining;
  const pairs = new Map();
  for (const [net, from, to, way, start, end] of run.cuts) {
    if (!whole(net) || way < 2 || end <= start) continue;
    const key = `${Math.min(from, to)},${Math.max(from, to)}`;
    if (!pairs.has(key)) pairs.set(key, []);
    pairs.get(key).push({ net, up: from < to, way, start, end });
  }
  const stories = [];
  let strips = [];
  {
    const left = new Map(pairs);
    while (left.size) {
      // The node that shares one story with most others gives the row its name.
      let best = null;
      for (let hub = 0; hub < run.nodes; hub++) {
        const groups = new Map();
        for (const [key, list] of left) {
          const [a, b] = key.split(',').map(Number);
          if (a !== hub && b !== hub) continue;
          const story = list.map((c) =>
            [c.start, c.end, c.net, c.way, (a === hub) === c.up].join()).sort().join(';');
          if (!groups.has(story)) groups.set(story, []);
          groups.get(story).push({ key, other: a === hub ? b : a });
        }
        for (const members of groups.values()) {
          if (!best || members.length > best.members.length) best = { hub, members };
        }
      }
      const first = best.members[0].key;
      const list = left.get(first).map((c) =>
        ({ ...c, out: (Number(first.split(',')[0]) === best.hub) === c.up }));
      best.members.forEach((m) => left.delete(m.key));
      stories.push({ hub: best.hub, others: best.members.map((m) => m.other), list });
    }
    stories.sort((x, y) => x.hub - y.hub || x.others[0] - y.others[0]);
  }
  const passes = (from, to, t) => {
    let cutNets = 0, filtered = false;
    for (const [net, a, b, way, start, end] of run.cuts) {
      if (a === from && b === to && whole(net) && start <= t && (t < end || end === run.ended)) {
        if (way === 3) cutNets++;
        if (way === 2) filtered = true;
      }
    }
    return cutNets >= run.joining ? 0 : filtered || cutNets ? 1 : 2;
  };

  // ---- rows
  const faultRows = [];
  const faults = run.faults.map(([number, words, from, until]) => ({ number, words, from, until }));
  const kids = run.lanes.map(() => []);
  run.lanes.forEach((l, i) => { if (l.on !== null) kids[l.on].push(i); });
  let view = { from: 0, to: run.ended };
  let width = 800, height = 400, unshown = 0;
  const y = { strips: 0, lanes: [], node: [] };
  const canvas = $('canvas'), ctx = canvas.getContext('2d');
  let colour = {};

  function layout() {
    ctx.font = '12px system-ui, sans-serif';
    // Faults in view are packed into rows so that no two labels overlap.
    faultRows.length = 0;
    unshown = 0;
    for (const f of faults) {
      f.row = -1;
      if (f.until < view.from || f.from > view.to) continue;
      const start = X(Math.max(f.from, view.from));
      const words = ctx.measureText(`${f.number + 1}: ${f.words}`).width + 12;
      f.label = Math.max(LEFT, Math.min(start, width - RIGHT - words));
      let row = faultRows.findIndex((end) => end <= f.label);
      if (row < 0 && faultRows.length < 12) row = faultRows.push(0) - 1;
      if (row < 0) { unshown++; continue; }
      faultRows[row] = Math.max(X(Math.min(f.until, view.to)), f.label + words);
      f.row = row;
    }
    // Only who was cut off within the window.
    strips = stories.filter((s) => s.list.some((c) => c.start <= view.to && c.end >= view.from));
    y.faults = RULER;
    y.strips = RULER + faultRows.length * ROW + (strips.length ? 20 : 6);
    let top = y.strips + strips.length * PAIR + 12;
    for (let node = 0; node < run.nodes; node++) {
      y.node[node] = top;
      y.lanes[node] = top + NODE / 2;
      top += NODE;
      for (const kid of kids[node]) { y.lanes[kid] = top; top += GUEST; }
      top += GAP;
    }
    height = top;
  }
  const X = (us) => LEFT + ((us - view.from) / Math.max(1, view.to - view.from))
    * (width - LEFT - RIGHT);
  const T = (x) => view.from + ((x - LEFT) / (width - LEFT - RIGHT)) * (view.to - view.from);

  function labels() {
    const out = [];
    const put = (cls, top, html, title, data) => out.push(
      `<div class="${cls}" style="top:${top}px" title="${esc(title || '')}"${data || ''}>${html}</div>`);
    if (faultRows.length) put('head', RULER + 1, unshown ? `faults (${unshown} not shown)` : 'faults');
    if (strips.length) put('head', y.strips - 16, 'cut from each other');
    strips.forEach((s, i) => {
      const others = s.others.map(nameOf).join(' ');
      put('pair', y.strips + i * PAIR - 1, `<b>${esc(nameOf(s.hub))}</b> | ${esc(others)}`,
        `${nameOf(s.hub)} and ${others}`);
    });
    for (let node = 0; node < run.nodes; node++) {
      put('lane', y.node[node] + 10, esc(nameOf(node)), '', ` data-lane="${esc(nameOf(node))}"`);
      for (const kid of kids[node]) {
        put('guest', y.lanes[kid] - 1, '&nbsp;&nbsp;' + esc(nameOf(kid)), nameOf(kid),
          ` data-lane="${esc(nameOf(kid))}"`);
      }
    }
    $('labels').innerHTML = out.join('');
  }

  const rect = (c, t0, t1, top, h, alpha = 1, least = 1) => {
    const a = Math.max(LEFT, X(t0)), b = Math.min(width - RIGHT, X(t1));
    if (b < LEFT || a > width - RIGHT) return null;
    ctx.globalAlpha = alpha;
    ctx.fillStyle = c;
    ctx.fillRect(a, top, Math.max(least, b - a), h);
    ctx.globalAlpha = 1;
    return [a, Math.max(least, b - a)];
  };
  const label = (s, x, base, c, room) => {
    ctx.fillStyle = c;
    if (room === undefined || ctx.measureText(s).width < room) ctx.fillText(s, x, base);
  };
  const lower = (list, key, t) => {
    let lo = 0, hi = list.length;
    while (lo < hi) { const mid = (lo + hi) >> 1; if (key(list[mid]) < t) lo = mid + 1; else hi = mid; }
    return lo;
  };
  function visible() {
    // Nothing is on its way for longer than the longest flight; look that far back.
    const out = [];
    for (let i = lower(messages, (m) => m.t0, view.from - longest); i < messages.length; i++) {
      const m = messages[i];
      if (m.t0 > view.to) break;
      if (m.t1 >= view.from && !hidden.has(m.type)) out.push(m);
    }
    return out;
  }
  const longest = messages.reduce((most, m) => Math.max(most, m.way ? 0 : m.t1 - m.t0), 0);

  function ruler() {
    const span = view.to - view.from;
    const steps = [1, 2, 5].flatMap((m) => [...Array(9).keys()].map((e) => m * 10 ** e)).sort((a, b) => a - b);
    const step = steps.find((s) => (s / span) * (width - LEFT) > 80) || 1e9;
    ctx.font = '11px system-ui, sans-serif';
    for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) {
      const x = X(t);
      ctx.fillStyle = colour.line;
      ctx.fillRect(x, RULER - 4, 1, height);
      label(`${+(t / 1e6).toFixed(6)} s`, x + 3, 12, colour.faint);
    }
  }
  function drawFaults() {
    ctx.font = '12px system-ui, sans-serif';
    for (const f of faults) {
      if (f.row < 0) continue;
      const top = y.faults + f.row * ROW;
      const lies = run.lying.some((l) => l.number === f.number);
      rect(lies ? colour.first : colour.fault, f.from, f.until, top, ROW - 3, lies ? 0.45 : 1, 3);
      label(`${f.number + 1}: ${f.words}`, f.label + 5, top + 11.5, colour['fault-ink']);
    }
  }
  function drawStrips() {
    strips.forEach((s, i) => {
      const top = y.strips + i * PAIR;
      rect(colour.lane, view.from, view.to, top, PAIR - 3);
      for (const c of s.list) {
        const tint = c.way === 3 ? colour.cut : colour.filtered;
        const share = (PAIR - 3) / 2;
        rect(tint, c.start, c.end, top + (c.out ? 0 : share), share, run.joining > 1 ? 0.6 : 1);
      }
    });
  }
  function drawLanes() {
    ctx.font = '11px system-ui, sans-serif';
    for (let node = 0; node < run.nodes; node++) {
      const top = y.node[node];
      const h = NODE + kids[node].length * GUEST + 2;
      rect(colour.down, view.from, view.to, top, h, 0.45);
    }
    const bars = (name, draw) => run.bands.forEach((b) => {
      if (b[1] === name && b[4] >= view.from && b[3] <= view.to) draw(b);
    });
    const tall = (l) => NODE + kids[l].length * GUEST + 2;
    bars('up', ([l, , , a, b]) => {
      rect(colour.paper, a, b, y.node[l], tall(l));
      rect(colour.lane, a, b, y.node[l], tall(l));
    });
    bars('stopped', ([l, , , a, b]) => {
      const at = rect(colour.stopped, a, b, y.node[l], NODE, 0.55);
      if (at) label('stopped', at[0] + 4, y.node[l] + 19, colour.ink, at[1]);
    });
    bars('off', ([l, , , a, b]) => {
      const at = rect(colour.off, a, b, y.node[l], tall(l), 0.75);
      if (at) label('off or frozen', at[0] + 4, y.node[l] + 19, '#fff', at[1]);
    });
    for (let node = 0; node < run.nodes; node++) {
      rect(colour.faint, view.from, view.to, y.lanes[node], 1, 0.5);
    }
    bars('term', ([l, , w, a, b]) => {
      const at = rect(colour.term, a, b, y.node[l], 3);
      if (at && !run.bands.some((c) => c[0] === l && c[1] === 'coordinator' && c[3] <= T(at[0] + 4)
        && c[4] >= T(at[0] + 4))) {
        label(run.texts[w], at[0] + 4, y.node[l] + 14, colour.faint, at[1]);
      }
    });
    bars('coordinator', ([l, , , a, b]) => {
      const at = rect(colour.coordinator, a, b, y.node[l], 7);
      if (at) label('coordinator', at[0] + 4, y.node[l] + 18, colour.coordinator, at[1]);
    });
    bars('judged', ([l, , w, a, b]) => {
      const at = rect(colour.judged, a, b, y.node[l] + NODE - 9, 4);
      if (at) label(run.texts[w], at[0] + 4, y.node[l] + NODE - 12, colour.judged, at[1]);
    });
    bars('lease', ([l, , , a, b]) => {
      rect(colour.lease, a, b, y.node[l] + NODE - 5, 5);
      const end = X(b);
      if (b < run.ended && end > LEFT && end < width - RIGHT) {
        label('lease ends', end + 3, y.node[l] + NODE - 1, colour.lease);
      }
    });
    const known = ['up', 'stopped', 'off', 'term', 'coordinator', 'judged', 'lease', 'guest',
      'drains'];
    // A band nobody told us how to draw: as a guest of its own kind.
    run.bands.forEach(([l, name, w, a, b]) => {
      const on = run.lanes[l].on !== null;
      if (known.includes(name) && !on) return;
      const top = on ? y.lanes[l] : y.node[l] + 24;
      const state = name === 'guest' ? run.texts[w] : name;
      const at = rect(colour[state] || colour.runs, a, b, top, GUEST - 3,
        name === 'drains' ? 0.8 : 1, 2);
      if (at) {
        label(name === 'guest' ? run.texts[w] : run.texts[w] || name, at[0] + 4, top + 10,
          state === 'runs' ? '#fff' : colour.ink, at[1] - 4);
      }
    });
  }
  const tone = (m) => m.type === 'log' || m.type === 'message' || m.type === 'propose'
    || m.type === 'feed' || m.type === 'state' ? colour.log
    : m.type === 'beat' || m.type === 'ack' || m.type === 'datagram' ? colour.message
    : colour.other;
  function arrows(shown) {
    const alpha = Math.max(0.12, Math.min(0.9, 500 / (shown.length + 1)));
    const paths = new Map();
    const add = (key, f) => {
      if (!paths.has(key)) paths.set(key, new Path2D());
      f(paths.get(key));
    };
    for (const m of shown) {
      const x0 = X(m.t0), ya = y.lanes[m.a], yb = y.lanes[m.b];
      if (m.lost) {
        // Lost in the first third of its way, or where it should have arrived.
        const far = m.t1 > m.t0 ? 0.94 : 0.35;
        const x = m.t1 > m.t0 ? X(m.t1) : x0 + Math.min(10, width / 200), yy = ya + (yb - ya) * far;
        add('lost', (p) => { p.moveTo(x0, ya); p.lineTo(x, yy); });
        add('cross', (p) => {
          p.moveTo(x - 3, yy - 3); p.lineTo(x + 3, yy + 3); p.moveTo(x + 3, yy - 3); p.lineTo(x - 3, yy + 3);
        });
        continue;
      }
      const x1 = X(m.t1);
      add(tone(m), (p) => {
        p.moveTo(x0, ya);
        p.lineTo(x1, yb);
        if (m.way) return;
        const angle = Math.atan2(yb - ya, x1 - x0);
        for (const turn of [2.7, -2.7]) {
          p.moveTo(x1, yb);
          p.lineTo(x1 + 6 * Math.cos(angle + turn), yb + 6 * Math.sin(angle + turn));
        }
      });
    }
    for (const [key, path] of paths) {
      const lost = key === 'lost' || key === 'cross';
      ctx.strokeStyle = lost ? colour.cut : key;
      ctx.globalAlpha = key === 'cross' ? Math.max(0.35, alpha) : lost ? alpha * 0.6 : alpha;
      ctx.lineWidth = key === 'cross' ? 1.4 : 1;
      ctx.stroke(path);
    }
    ctx.globalAlpha = 1;
  }
  function density(shown) {
    const cell = 3, columns = Math.ceil((width - LEFT - RIGHT) / cell);
    const sent = run.lanes.map(() => new Uint32Array(columns)), lost = run.lanes.map(() => new Uint32Array(columns));
    let most = 1;
    for (const m of shown) {
      const c = Math.floor((X(m.t0) - LEFT) / cell);
      if (c < 0 || c >= columns) continue;
      const all = ++sent[m.a][c];
      if (m.lost) lost[m.a][c]++;
      if (all > most) most = all;
    }
    for (let node = 0; node < run.nodes; node++) {
      for (let c = 0; c < columns; c++) {
        const h = (v) => (v / most) * (NODE - 16), base = y.node[node] + NODE - 6;
        ctx.globalAlpha = 0.8;
        ctx.fillStyle = colour.message;
        ctx.fillRect(LEFT + c * cell, base - h(sent[node][c]), cell - 1, h(sent[node][c]));
        ctx.fillStyle = colour.cut;
        ctx.fillRect(LEFT + c * cell, base - h(lost[node][c]), cell - 1, h(lost[node][c]));
      }
    }
    ctx.globalAlpha = 1;
  }
  const glyph = { decided: ['◆', 'faint'], order: ['▶', 'runs'], truth: ['•', 'ink'],
    fence: ['⚡', 'filtered'], kill: ['✖', 'cut'], note: ['·', 'faint'] };
  function drawMarks() {
    ctx.font = '12px system-ui, sans-serif';
    ctx.textAlign = 'center';
    let last = new Map();
    for (let k = lower(marks, (i) => at[i], view.from); k < marks.length; k++) {
      const i = marks[k];
      if (at[i] > view.to) break;
      const sort = kind[i] === K.mark ? run.sorts[value[i]] : 'note';
      const [sign, tint] = kind[i] === K.mark ? glyph[sort]
        : kind[i] === K['process starts'] ? ['▲', 'lease'] : ['▼', 'cut'];
      const x = X(at[i]), key = `${lane[i]} ${sign}`;
      if (last.has(key) && x - last.get(key) < 3) continue;
      last.set(key, x);
      label(sign, x, y.lanes[nodeOf(lane[i])] + 4, colour[tint]);
    }
    ctx.textAlign = 'left';
  }
  function drawChain(list, tint, open) {
    const points = list.filter((i) => lane[i] >= 0).map((i) => [X(at[i]), y.lanes[nodeOf(lane[i])]]);
    ctx.strokeStyle = tint;
    ctx.fillStyle = tint;
    ctx.lineWidth = 2.5;
    ctx.globalAlpha = 0.85;
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT, 0, width - LEFT - RIGHT, height);
    ctx.clip();
    ctx.beginPath();
    points.forEach(([x, yy], k) => (k ? ctx.lineTo(x, yy) : ctx.moveTo(x, yy)));
    ctx.stroke();
    for (const [x, yy] of points) {
      ctx.beginPath();
      ctx.arc(x, yy, 4, 0, 7);
      if (open) ctx.stroke(); else ctx.fill();
    }
    ctx.restore();
    ctx.globalAlpha = 1;
    ctx.lineWidth = 1;
  }
  let picked = null;
  const back = (i) => {
    const all = [];
    for (let e = i, steps = 0; e > 0 && steps < 400; e = cause[e], steps++) all.push(e);
    return all;
  };
  let shown = [];
  function draw() {
    const style = getComputedStyle(document.documentElement);
    for (const name of ['paper', 'ink', 'faint', 'line', 'lane', 'cut', 'filtered', 'off', 'stopped',
      'down', 'coordinator', 'term', 'lease', 'judged', 'runs', 'held', 'drains', 'message', 'log',
      'other', 'fault', 'fault-ink', 'first', 'second', 'broken']) {
      colour[name] = style.getPropertyValue('--' + name).trim();
    }
    width = $('stage').clientWidth;
    layout();
    const ratio = window.devicePixelRatio || 1;
    canvas.width = width * ratio;
    canvas.height = height * ratio;
    canvas.style.width = width + 'px';
    canvas.style.height = height + 'px';
    ctx.setTransform(ratio, 0, 0, ratio, 0, 0);
    ctx.clearRect(0, 0, width, height);
    ruler();
    drawFaults();
    drawStrips();
    drawLanes();
    ctx.save();
    ctx.beginPath();
    ctx.rect(LEFT, 0, width - LEFT - RIGHT, height);
    ctx.clip();
    shown = visible();
    const dense = shown.length > ARROWS;
    if (dense) density(shown); else arrows(shown);
    drawMarks();
    ctx.restore();
    const tints = [colour.first, colour.second];
    if (picked === null) {
      run.chains.forEach((c, k) => drawChain(c.hops.map((h) => h.entry), tints[k], k === 1));
    } else {
      drawChain(back(picked), colour.first);
    }
    labels();
    $('note').hidden = !dense;
    $('note').textContent = `${shown.length} messages: how many left each node (lost ones red). Zoom in for arrows.`;
    $('clock').textContent = `${short(view.from)} s to ${short(view.to)} s of ${short(run.ended)} s`;
    const slack = run.ended - (view.to - view.from);
    $('time').value = slack > 0 ? Math.round((view.from / slack) * 1000) : 0;
    if ($('cursor').hidden) rest();
    if (run.broken) {
      const x = X(run.broken.at), line = $('violation');
      line.hidden = x < LEFT || x > width - RIGHT + 1;
      line.style.left = x + 'px';
      line.className = x > width * 0.6 ? 'left' : '';
    }
  }
  function show(from, to) {
    const least = 200, length = Math.min(run.ended, Math.max(least, to - from));
    const start = Math.max(0, Math.min(from, run.ended - length));
    view = { from: start, to: start + length };
    draw();
  }
  const zoom = (factor, around) => {
    const t = around === undefined ? (view.from + view.to) / 2 : around;
    show(t - (t - view.from) * factor, t + (view.to - t) * factor);
  };

  // ---- the small matrix: who hears whom
  function matrix(t) {
    const cell = Math.min(30, 250 / (run.nodes + 1)), side = cell * (run.nodes + 1);
    const small = $('matrix'), c = small.getContext('2d'), ratio = window.devicePixelRatio || 1;
    small.width = side * ratio;
    small.height = side * ratio;
    small.style.width = small.style.height = side + 'px';
    c.setTransform(ratio, 0, 0, ratio, 0, 0);
    c.font = `${Math.min(12, cell / 2)}px system-ui, sans-serif`;
    c.textAlign = 'center';
    for (let a = 0; a < run.nodes; a++) {
      c.fillStyle = colour.ink;
      c.fillText(nameOf(a), (a + 1.5) * cell, cell * 0.65);
      c.fillText(nameOf(a), cell * 0.5, (a + 1.65) * cell);
      for (let b = 0; b < run.nodes; b++) {
        const p = a === b ? 3 : passes(b, a, t);
        c.fillStyle = [colour.cut, colour.filtered, colour.lease, colour.line][p];
        c.globalAlpha = p === 2 ? 0.55 : 1;
        c.fillRect((b + 1) * cell + 1, (a + 1) * cell + 1, cell - 2, cell - 2);
        c.globalAlpha = 1;
      }
    }
    $('when').textContent = `at ${seconds(t)} s`;
    $('matrix-key').textContent = 'Row: who listens. Column: who speaks. Green passes, red is cut, orange passes in part.';
  }

  // ---- pointing
  function find(x, yy) {
    const t = T(x);
    if (yy < y.strips) {
      const f = faults.find((f) => f.row >= 0 && yy >= y.faults + f.row * ROW
        && yy < y.faults + f.row * ROW + ROW && t >= f.from - 1e9);
      const under = faults.filter((f) => f.row >= 0 && f.row === Math.floor((yy - y.faults) / ROW)
        && X(f.from) <= x).pop();
      const hit = under || f;
      if (hit) return { html: `<b>Fault ${hit.number + 1}</b>: ${esc(hit.words)}<br>${seconds(hit.from)} s to ${seconds(hit.until)} s` };
    }
    let best = null, least = 9;
    for (let k = lower(marks, (i) => at[i], T(x - 8)); k < marks.length && X(at[marks[k]]) < x + 8; k++) {
      const i = marks[k], d = Math.hypot(X(at[i]) - x, (y.lanes[nodeOf(lane[i])] - yy));
      if (d <= least) { least = d; best = i; }
    }
    if (best !== null) return { entry: best };
    least = 5;
    if (shown.length <= ARROWS) {
      for (const m of shown) {
        const x0 = X(m.t0), y0 = y.lanes[m.a], dx = X(m.t1) - x0, dy = y.lanes[m.b] - y0;
        const k = Math.max(0, Math.min(1, ((x - x0) * dx + (yy - y0) * dy) / (dx * dx + dy * dy || 1)));
        const d = Math.hypot(x0 + k * dx - x, y0 + k * dy - yy);
        if (d < least) { least = d; best = m.end; }
      }
    }
    if (best !== null) return { entry: best };
    const bands = run.bands.filter(([l, , , a, b]) => {
      const top = run.lanes[l].on === null ? y.node[l] : y.lanes[l];
      const tall = run.lanes[l].on === null ? NODE : GUEST;
      return a <= t && t <= b && yy >= top && yy < top + tall;
    });
    if (!bands.length) return null;
    return { html: bands.map(([l, name, w, a, b]) =>
      `<b>${esc(nameOf(l))}</b> ${esc(name)} ${esc(run.texts[w])}<br>${seconds(a)} s to ${seconds(b)} s`).join('<br>') };
  }
  const tell = (i) => `<b>${seconds(at[i])} s ${esc(nameOf(lane[i]))}</b> ${esc(trim(words(i), 420))}`
    + (kind[i] === K.received ? ` <i>(${((at[i] - at[cause[i]]) / 1000).toFixed(1)} ms on its way)</i>` : '');
  let drag = null;
  canvas.addEventListener('mousemove', (e) => {
    if (drag) {
      const moved = ((drag.x - e.offsetX) / (width - LEFT - RIGHT)) * (drag.to - drag.from);
      drag.moved = drag.moved || Math.abs(drag.x - e.offsetX) > 3;
      if (drag.moved) show(drag.from + moved, drag.to + moved);
      return;
    }
    const t = T(e.offsetX);
    $('cursor').hidden = e.offsetX < LEFT;
    $('cursor').style.left = e.offsetX + 'px';
    matrix(Math.max(0, Math.min(t, run.ended)));
    const hit = find(e.offsetX, e.offsetY);
    if (hit) $('hover').innerHTML = hit.html || tell(hit.entry);
  });
  canvas.addEventListener('mousedown', (e) => { drag = { x: e.offsetX, ...view }; });
  window.addEventListener('mouseup', (e) => {
    const click = drag && !drag.moved && e.target === canvas;
    drag = null;
    if (!click) return;
    const hit = find(e.offsetX, e.offsetY);
    picked = hit && hit.entry !== undefined ? hit.entry : null;
    if (picked !== null) {
      $('hover').innerHTML = back(picked).slice(0, 9).map(tell).join('<br><i>because of</i> ');
    }
    draw();
  });
  canvas.addEventListener('mouseleave', () => { $('cursor').hidden = true; rest(); });
  canvas.addEventListener('wheel', (e) => {
    e.preventDefault();
    if (e.shiftKey || Math.abs(e.deltaX) > Math.abs(e.deltaY)) {
      const by = ((e.deltaX || e.deltaY) / width) * (view.to - view.from);
      show(view.from + by, view.to + by);
    } else {
      zoom(e.deltaY > 0 ? 1.25 : 0.8, T(e.offsetX));
    }
  }, { passive: false });
  window.addEventListener('keydown', (e) => {
    const step = (view.to - view.from) / 5;
    if (e.target.tagName === 'INPUT') return;
    if (e.key === 'ArrowLeft') show(view.from - step, view.to - step);
    if (e.key === 'ArrowRight') show(view.from + step, view.to + step);
    if (e.key === '+') zoom(0.7);
    if (e.key === '-') zoom(1.4);
  });
  $('time').addEventListener('input', (e) => {
    const length = view.to - view.from, from = (e.target.value / 1000) * (run.ended - length);
    show(from, from + length);
  });
  // The moment it broke if that is in view, the middle of the view if not.
  function rest() {
    const t = run.broken ? run.broken.at : view.to;
    matrix(t >= view.from && t <= view.to ? t : (view.from + view.to) / 2);
  }

  // ---- the page around the picture
  function opening() {
    if (!run.broken) return [0, run.ended];
    const near = run.broken.at - 20e6;
    const told = run.chains.flatMap((c) => c.hops.map((h) => at[h.entry]));
    const first = Math.min(run.broken.at - 4e6, ...told.concat(run.lying.map((l) => l.from)).filter((t) => t > near));
    const room = (run.broken.at - first) * 0.05 + 1e4;
    return [first - room, run.broken.at + room];
  }
  $('title').textContent = run.broken
    ? `${run.broken.property} broken at ${run.broken.time} s: ${run.broken.what}` : 'No promise broken';
  $('title').className = run.broken ? 'bad' : '';
  $('story').textContent = run.story.join(' ');
  if (run.broken) {
    const classes = ['one', 'two'];
    $('facts').innerHTML = run.broken.facts.map((f, i) =>
      `<div class="${classes[i]}"><small>fact ${i + 1}</small>${esc(f)}</div>`).join('');
    $('violation').firstElementChild.textContent = `${run.broken.property} broken`;
    $('violation').dataset.at = run.broken.time;
    const hop = (h) => `<li data-entry="${h.entry}">${tell(h.entry)}`
      + h.marks.map((m) => `<br>&nbsp;&nbsp;${esc(trim(words(m), 300))}`).join('')
      + (h.skipped ? `<br><i>… ${h.skipped} ordinary step${h.skipped > 1 ? 's' : ''}</i>` : '') + '</li>';
    const parts = run.chains.map((c, i) => `<div class="${classes[i]}"><h2>What led to fact ${i + 1}, newest first</h2>`
      + `<ol>${c.hops.map(hop).join('') || '<li>nothing in the record fits it</li>'}</ol></div>`);
    parts.push(`<div><h2>Faults on the way</h2><ol>${run.lying.map((l) =>
      `<li><b>${l.number + 1}</b>: ${esc(l.text)} <i>(${seconds(l.from)} s to ${seconds(l.until)} s)</i>: ${esc(l.how)}</li>`).join('')
      || (run.faults.length ? '<li>none was found; shrinking tells which are needed</li>' : '<li>none: it breaks without any fault</li>')}</ol></div>`);
    $('why').innerHTML = parts.join('');
    $('why').addEventListener('click', (e) => {
      const item = e.target.closest('li[data-entry]');
      if (!item) return;
      const i = Number(item.dataset.entry), half = Math.min(run.ended, 4e6) / 2;
      show(at[i] - half, at[i] + half);
      $('hover').innerHTML = tell(i);
      window.scrollTo({ top: 0 });
    });
  }
  $('about').innerHTML = `seed ${esc(run.seed)}${run.bug ? `, with the planted bug ${esc(run.bug)}` : ''}, version ${esc(run.version)}, hash ${esc(run.hash)},`
    + ` ${n} entries. Again: <code>${esc(run.again)}</code>. Wheel: zoom. Drag: move. Click: what caused it.`;
  $('kinds').innerHTML = [...types].sort((a, b) => b[1] - a[1]).slice(0, 9).map(([type, count]) =>
    `<label><input type="checkbox" checked value="${esc(type)}"> ${esc(type)} ${count}</label>`).join('');
  $('kinds').addEventListener('change', (e) => {
    if (e.target.checked) hidden.delete(e.target.value); else hidden.add(e.target.value);
    draw();
  });
  const bands = new Set(run.bands.map((b) => b[1]));
  const line = (c, s) => `<i style="background:var(--${c})"></i><span>${s}</span>`;
  const sign = (s, c, w) => `<span style="color:var(--${c});text-align:center">${s}</span><span>${w}</span>`;
  $('key').innerHTML = [
    stories.some((s) => s.list.some((c) => c.way === 2)) && line('filtered', 'some kinds of messages stopped'),
    bands.has('coordinator') && line('coordinator', 'may give orders as coordinator'),
    bands.has('term') && line('term', 'holds the newest term in the log'),
    stories.length && line('cut', 'cut; upper half: is not heard, lower half: does not hear'),
    bands.has('lease') && line('lease', 'its lease, as its guardian knows it'),
    bands.has('judged') && line('judged', 'judged lost or proved ended by the log'),
    bands.has('guest') && line('runs', 'guest runs and can write'),
    bands.has('guest') && line('held', 'guest exists, held'),
    bands.has('drains') && line('drains', 'its last writes may still land'),
    line('down', 'no process'), bands.has('stopped') && line('stopped', 'process stopped'),
    bands.has('off') && line('off', 'off or frozen'),
    sign('✕', 'cut', 'a lost message'), sign('◆', 'faint', 'an entry of the log is decided'),
    sign('▶', 'runs', 'an order'), sign('⚡', 'filtered', 'fencing, watchdog'),
    sign('✖', 'cut', 'guests are ended'), sign('•', 'ink', 'the truth, which no node sees'),
    run.broken && line('first', 'what led to fact 1'), run.broken && line('second', 'what led to fact 2'),
  ].filter(Boolean).join('');
  $('whole').onclick = () => { picked = null; show(0, run.ended); };
  $('moment').onclick = () => { picked = null; show(...opening()); };
  $('moment').hidden = !run.broken;
  $('in').onclick = () => zoom(0.6);
  $('out').onclick = () => zoom(1.6);
  window.addEventListener('resize', draw);
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', draw);
  // `#46.5-48` opens that window, in seconds: a link to a moment.
  const asked = /^#([\d.]+)-([\d.]+)$/.exec(location.hash);
  show(...(asked ? [asked[1] * 1e6, asked[2] * 1e6] : opening()));
  document.body.dataset.drawn = 'yes';
})();
