// What a picture of evidence shows: which lines, their colours, the outline. As in `delf/report/evidence.py`.
//
// Points are [x, y] in pixels of the upright originals, [0, 0] the centre of the first pixel. A transform is 3 rows of
// 3, from the query to the result.

const WHOLE = 0.9; // share of the result from which the outline of the query is but its frame
const SMALLEST_OUTLINE = 16; // square pixels
const MOST_LINES = 150;

/** Which rows of [x0, y0, x1, y1] to draw: at most 150, spread evenly over their order. */
export function drawnLines(points, [w0, h0], [w1, h1]) {
  const bounds = [w0, h0, w1, h1];
  const inside = points.map((row, index) => [row, index])
    .filter(([row]) => row.every((value, i) => value >= -0.5 && value <= bounds[i] - 0.5));
  if (inside.length <= MOST_LINES) return inside.map(([, index]) => index);
  return Array.from({ length: MOST_LINES },
    (_, i) => inside[Math.round((i * (inside.length - 1)) / (MOST_LINES - 1))][1]);
}

export const lineOpacity = (lines) => 0.9 * Math.sqrt(Math.min(1, 30 / Math.max(lines, 1)));

/** From gold (the most similar) by green and blue to violet, evenly to the eye. */
export function lineColour(index, total) {
  const t = index / Math.max(total - 1, 1);
  return `oklch(${(0.86 - 0.16 * t).toFixed(3)} 0.125 ${(85 + 230 * t).toFixed(1)})`;
}

export function corners([width, height], box = null) {
  const [x1, y1, x2, y2] = box ?? [-0.5, -0.5, width - 0.5, height - 0.5];
  return [[x1, y1], [x2, y1], [x2, y2], [x1, y2]];
}

const apply = (m, [x, y]) => m.map(([a, b, c]) => a * x + b * y + c);

/** A point through a transform; null beyond the horizon. */
export function mapped(m, point) {
  const [x, y, w] = apply(m, point);
  const result = [x / w, y / w];
  return result.every(Number.isFinite) ? result : null;
}

/** How much larger things are after a transform, near a point. */
export function magnification(m, point) {
  const here = mapped(m, point);
  const right = mapped(m, [point[0] + 1, point[1]]);
  const below = mapped(m, [point[0], point[1] + 1]);
  if (!here || !right || !below) return 1;
  return Math.sqrt(Math.abs((right[0] - here[0]) * (below[1] - here[1]) - (right[1] - here[1]) * (below[0] - here[0]))) || 1;
}

export function inverse(m) {
  const [[a, b, c], [d, e, f], [g, h, i]] = m;
  const cofactors = [[e * i - f * h, c * h - b * i, b * f - c * e], [f * g - d * i, a * i - c * g, c * d - a * f],
    [d * h - e * g, b * g - a * h, a * e - b * d]];
  const determinant = a * cofactors[0][0] + b * cofactors[1][0] + c * cofactors[2][0];
  const result = cofactors.map((row) => row.map((value) => value / determinant));
  return result.flat().every(Number.isFinite) ? result : null;
}

/** The outline of the query on the result, clipped to it; null where the transform degenerates. */
export function projectedOutline(transform, outline, size) {
  const largest = transform ? Math.max(...transform.flat().map(Math.abs)) : 0;
  if (!(largest > 0) || !Number.isFinite(largest)) return null;
  const scaled = transform.map((row) => row.map((value) => value / largest));
  const raw = outline.map((point) => apply(scaled, point));
  const sign = Math.sign(raw[0][2]);
  const projected = raw.map((point) => point.map((value) => value * sign));
  const most = Math.max(...projected.flat().map(Math.abs));
  if (projected.some((point) => point[2] <= 1e-9 * most)) return null;
  const clipped = clip(projected, size);
  if (clipped.length < 3) return null;
  const polygon = clipped.map(([x, y, w]) => [x / w, y / w]);
  return area(polygon) >= SMALLEST_OUTLINE ? polygon : null;
}

/** What is outlined on either picture, and that in words. Where the query shows more, the result is outlined on it. */
export function outlines(transform, query, result, box) {
  const searched = corners(query, box);
  const given = box ? searched : null;
  const projected = projectedOutline(transform, searched, result);
  if (!projected) return { query: given, result: null, words: "" };
  if (!given && area(projected) >= WHOLE * result[0] * result[1]) {
    const back = inverse(transform);
    const found = back && projectedOutline(back, corners(result), query);
    if (found) return { query: found, result: null, words: "the result on the query" };
  }
  return { query: given, result: projected, words: "the query on the result" };
}

/** Sutherland and Hodgman's clipping of a polygon of homogeneous points to the picture. */
function clip(polygon, [width, height]) {
  let points = polygon;
  for (const [a, b, c] of [[1, 0, 0.5], [-1, 0, width - 0.5], [0, 1, 0.5], [0, -1, height - 0.5]]) {
    const distances = points.map(([x, y, w]) => a * x + b * y + c * w); // positive inside
    const kept = [];
    points.forEach((here, i) => {
      const next = (i + 1) % points.length;
      const [d0, d1] = [distances[i], distances[next]];
      if (d0 >= 0) kept.push(here);
      if (d0 >= 0 !== d1 >= 0) kept.push(here.map((value, k) => value + (points[next][k] - value) * (d0 / (d0 - d1))));
    });
    points = kept;
  }
  return points;
}

function area(polygon) {
  let sum = 0;
  polygon.forEach(([x, y], i) => {
    const [u, v] = polygon[(i + 1) % polygon.length];
    sum += x * v - y * u;
  });
  return Math.abs(sum) / 2;
}
