// What is looked at, kept in the address: back, forward, reload and bookmarks work.
//
// id: the key of a photo of the collection as the query; upload: one that was given to this page; shared: the key of one
// that the service keeps for a while. box: [x1, y1, x2, y2] in pixels of the upright query. where: a condition on the
// photos that are listed and found; name, order: what the names of listed photos contain, and how these are ordered.
// map: whether photos are shown on a map: "all", or where that is, as [latitude, longitude, zoom]; area: [south, west,
// north, east], of which photos are listed.
// open: the key of the result that is open; column: 0 or 1, whose result it is.

const NAMES = ["id", "shared", "upload", "box", "where", "name", "order", "area", "map", "method", "compare", "top", "open", "column"];
const ORDERS = ["newest", "oldest", "name", "folder", "added"]; // the first is the usual one

export function fromAddress(search = location.search) {
  const given = new URLSearchParams(search);
  const key = (name) => (/^[0-9a-f]{64}$/.test(given.get(name) ?? "") ? given.get(name) : null);
  const number = (name) => (/^\d+$/.test(given.get(name) ?? "") ? Number(given.get(name)) : null);
  const numbers = (name, count) => {
    const found = (given.get(name) ?? "").split(",").map((text) => (text.trim() ? Number(text) : NaN));
    return found.length === count && found.every(Number.isFinite) ? found : null;
  };
  const box = numbers("box", 4);
  const area = numbers("area", 4);
  return {
    id: key("id"), shared: key("shared"), name: given.get("name") || null, order: ORDERS.includes(given.get("order")) ? given.get("order") : null, upload: given.get("upload"), where: given.get("where") || null, method: given.get("method"), compare: given.get("compare"),
    box: box && box[2] > box[0] && box[3] > box[1] ? box : null,
    area: area && area[2] >= area[0] && area[3] >= area[1] ? area : null, map: given.has("map") ? numbers("map", 3) ?? "all" : null,
    top: number("top"), open: key("open"), column: number("column") === 1 ? 1 : null,
  };
}

export function toAddress(state) {
  const given = new URLSearchParams();
  for (const name of NAMES) {
    const value = state[name];
    if (value !== null && value !== undefined && value !== "") given.set(name, Array.isArray(value) ? value.join(",") : value);
  }
  const text = given.toString().replaceAll("+", "%20").replaceAll("%2C", ",");
  return text ? `?${text}` : location.pathname;
}

export const hasQuery = (state) => state.id !== null || state.shared !== null || Boolean(state.upload);

/** The state of a new query: the way of searching stays, what belonged to the query before goes. */
export function queryState(state, query) {
  return { id: null, shared: null, upload: null, ...query, box: null, top: null, open: null, column: null, name: null, order: null, area: null, map: null,
    where: state.where, method: state.method, compare: state.compare };
}

/** Which photos the start lists, and in which order. */
export const listing = (state) => ({ where: state.where, name: state.name, area: state.area, order: state.order ?? ORDERS[0] });

/** The condition on photos that are to be listed, as the service takes it; "" where all are. */
export function condition({ where, name, area = null }) {
  const quoted = name ? `name contains "${name.replace(/["\\]/g, "\\$&")}"` : "";
  const inside = area ? `latitude >= ${area[0]} and longitude >= ${area[1]} and latitude <= ${area[2]} and longitude <= ${area[3]}` : "";
  const parts = [quoted, inside].filter(Boolean);
  return (where && parts.length ? [...parts, `(${where})`] : [...parts, where].filter(Boolean)).join(" and ");
}
