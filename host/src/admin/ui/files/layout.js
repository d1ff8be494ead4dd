// Where the nodes of a data flow stand: in layers from left to right, with as few crossings as a few sweeps find.
//
// Pure: `{ nodes: [{ id, isFirst, isLast }], edges: [{ from, to }] }` in, places out. Invariant: triggers stand in the first layer
// (`isFirst`) and what is outside in the last (`isLast`); a cycle is drawn, and does not keep it from ending.

/** Where there are many layers, nodes are narrow: a flow is read as a whole. */
const WIDE = { width: 164, height: 44, gap: 64 };
const NARROW = { width: 132, height: 44, gap: 58 };
const LAYERS_WIDE_MAX = 5;
const GAP = 14;
const SWEEPS = 6;

/** `{ width, height, nodes: Map(id → { x, y, width, height }), ways: [{ edge, points }] }`. */
export function layOut({ nodes, edges }) {
  const layerOf = layers(nodes, edges);
  const { columns, chains } = withWaypoints(nodes, edges, layerOf);
  order(columns, chains);
  return place(columns, chains);
}

/** The longest way to each node that closes no cycle. */
function layers(nodes, edges) {
  const out = new Map(nodes.map((node) => [node.id, []]));
  const known = edges.filter((edge) => out.has(edge.from) && out.has(edge.to) && edge.from !== edge.to);
  known.forEach((edge) => out.get(edge.from).push(edge.to));
  const closing = cycleEdges(nodes, out);
  const waiting = new Map(nodes.map((node) => [node.id, 0]));
  const forward = known.filter((edge) => !closing.has(`${edge.from} ${edge.to}`));
  forward.forEach((edge) => waiting.set(edge.to, waiting.get(edge.to) + 1));
  const layerOf = new Map(nodes.map((node) => [node.id, node.isFirst ? 0 : 1]));
  const ready = nodes.filter((node) => waiting.get(node.id) === 0).map((node) => node.id);
  while (ready.length > 0) {
    const id = ready.shift();
    for (const edge of forward.filter((edge) => edge.from === id)) {
      layerOf.set(edge.to, Math.max(layerOf.get(edge.to), layerOf.get(id) + 1));
      waiting.set(edge.to, waiting.get(edge.to) - 1);
      if (waiting.get(edge.to) === 0) ready.push(edge.to);
    }
  }
  const inner = nodes.filter((node) => !node.isLast).map((node) => layerOf.get(node.id));
  const last = Math.max(0, ...inner) + 1;
  nodes.filter((node) => node.isLast).forEach((node) => layerOf.set(node.id, last));
  return compact(nodes, layerOf);
}

/** Layers that hold nothing are left out. */
function compact(nodes, layerOf) {
  const used = [...new Set(nodes.map((node) => layerOf.get(node.id)))].sort((a, b) => a - b);
  return new Map(nodes.map((node) => [node.id, used.indexOf(layerOf.get(node.id))]));
}

/** The edges by which a walk comes back to where it is. */
function cycleEdges(nodes, out) {
  const [closing, state] = [new Set(), new Map()];
  for (const { id: root } of nodes) {
    if (state.has(root)) continue;
    const stack = [{ id: root, at: 0 }];
    state.set(root, "open");
    while (stack.length > 0) {
      const top = stack[stack.length - 1];
      const next = out.get(top.id)[top.at++];
      if (next === undefined) {
        state.set(top.id, "closed");
        stack.pop();
      } else if (state.get(next) === "open") {
        closing.add(`${top.id} ${next}`);
      } else if (!state.has(next)) {
        state.set(next, "open");
        stack.push({ id: next, at: 0 });
      }
    }
  }
  return closing;
}

/** Columns of places, and for each edge the places that it passes: an edge over several layers keeps out of their nodes. */
function withWaypoints(nodes, edges, layerOf) {
  const columns = [];
  const at = (layer) => (columns[layer] ??= []);
  const spots = new Map();
  for (const node of nodes) {
    const spot = { id: node.id, layer: layerOf.get(node.id), isNode: true, before: [], after: [] };
    spots.set(node.id, spot);
    at(spot.layer).push(spot);
  }
  const chains = [];
  for (const edge of edges) {
    const [from, to] = [spots.get(edge.from), spots.get(edge.to)];
    if (!from || !to) continue;
    const chain = [from];
    const step = Math.sign(to.layer - from.layer);
    for (let layer = from.layer + step; step !== 0 && layer !== to.layer; layer += step) {
      const spot = { id: null, layer, isNode: false, before: [], after: [] };
      at(layer).push(spot);
      chain.push(spot);
    }
    chain.push(to);
    chains.push({ edge, chain });
  }
  return { columns, chains };
}

/** Each node goes to the middle of its neighbours, to and fro. */
function order(columns, chains) {
  for (const { chain } of chains) {
    chain.slice(1).forEach((spot, index) => {
      const [left, right] = [chain[index], spot].sort((a, b) => a.layer - b.layer);
      if (left.layer === right.layer) return;
      left.after.push(right);
      right.before.push(left);
    });
  }
  const number = () => columns.forEach((column) => column.forEach((spot, index) => (spot.rank = index)));
  const middle = (spot, side) => (spot[side].length ? spot[side].reduce((sum, one) => sum + one.rank, 0) / spot[side].length : spot.rank);
  number();
  for (let sweep = 0; sweep < SWEEPS; sweep += 1) {
    const side = sweep % 2 === 0 ? "before" : "after";
    const turn = sweep % 2 === 0 ? columns : [...columns].reverse();
    for (const column of turn) {
      const wish = new Map(column.map((spot) => [spot, middle(spot, side)]));
      column.sort((a, b) => wish.get(a) - wish.get(b));
      column.forEach((spot, index) => (spot.rank = index));
    }
  }
}

function place(columns, chains) {
  const { gap, ...node } = columns.length > LAYERS_WIDE_MAX ? NARROW : WIDE;
  const heightOf = (spot) => (spot.isNode ? node.height : GAP);
  const heights = columns.map((column) => column.reduce((sum, spot) => sum + heightOf(spot) + GAP, -GAP));
  const height = Math.max(node.height, ...heights);
  const nodes = new Map();
  columns.forEach((column, layer) => {
    let y = (height - heights[layer]) / 2;
    for (const spot of column) {
      Object.assign(spot, { x: layer * (node.width + gap), width: node.width, y, height: heightOf(spot) });
      if (spot.isNode) nodes.set(spot.id, { x: spot.x, y, ...node });
      y += spot.height + GAP;
    }
  });
  const width = columns.length * (node.width + gap) - gap;
  return { width: Math.max(width, node.width), height, nodes, ways: chains.map(({ edge, chain }) => ({ edge, points: points(chain) })) };
}

/** Where an edge leaves, passes and arrives. */
function points(chain) {
  const isBack = chain[chain.length - 1].layer < chain[0].layer;
  return chain.flatMap((spot, index) => {
    const y = spot.y + spot.height / 2;
    const [left, right] = [{ x: spot.x, y }, { x: spot.x + spot.width, y }];
    if (index === 0) return [isBack ? left : right];
    if (index === chain.length - 1) return [isBack ? right : left];
    return isBack ? [right, left] : [left, right];
  });
}
