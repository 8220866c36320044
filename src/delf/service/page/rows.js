// Where the tiles of very many photos lie: rows of equal tiles below the headings of their sections. Nothing here looks
// at the page, so that any number of photos costs as much as there are sections.

const HEAD = 44; // pixels for the heading of a section

/** sections: [{label, start, count}]; columns: tiles in a row; pitch: pixels from one row to the next. */
export class Rows {
  constructor(sections, columns, pitch) {
    this.columns = columns;
    this.pitch = pitch;
    this.head = sections.length > 1 ? HEAD : 0;
    let top = 0;
    this.sections = sections.map((section) => {
      const placed = { ...section, top, rows: Math.ceil(section.count / columns) };
      top += this.head + placed.rows * pitch;
      return placed;
    });
    this.height = top;
    this.total = sections.reduce((sum, { count }) => sum + count, 0);
  }

  /** The last section of those for which `before(section)` is true, or the first one. */
  last(before) {
    let [low, high] = [0, this.sections.length];
    while (high - low > 1) {
      const middle = (low + high) >> 1;
      if (before(this.sections[middle])) low = middle;
      else high = middle;
    }
    return this.sections[low] ?? null;
  }

  sectionOf(index) {
    return this.last((section) => section.start <= index);
  }

  sectionAt(y) {
    return this.last((section) => section.top <= y);
  }

  /** The top of the row of a photo. */
  top(index) {
    const section = this.sectionOf(index);
    return section.top + this.head + Math.floor((index - section.start) / this.columns) * this.pitch;
  }

  /** What there is between two heights: [{section, first, end}], of which each has photos `first` to `end` - 1. */
  between(from, to) {
    const found = [];
    const begin = this.sections.indexOf(this.sectionAt(from));
    for (const section of begin < 0 ? [] : this.sections.slice(begin)) {
      if (section.top > to) break;
      const inside = (y) => Math.floor((y - section.top - this.head) / this.pitch);
      const first = Math.min(section.rows, Math.max(0, inside(from))) * this.columns;
      const end = Math.min(section.count, Math.max(0, inside(to) + 1) * this.columns);
      found.push({ section, first: section.start + Math.min(first, section.count), end: section.start + Math.max(first, end) });
    }
    return found;
  }

  /** The photo that lies above (-1) or below (1) another one, or the outermost one there is. */
  beside(index, step) {
    const section = this.sectionOf(index);
    const column = (index - section.start) % this.columns;
    const row = Math.floor((index - section.start) / this.columns) + step;
    if (row >= 0 && row < section.rows) return Math.min(section.start + row * this.columns + column, section.start + section.count - 1);
    const next = this.sections[this.sections.indexOf(section) + step];
    if (!next) return index;
    const start = step > 0 ? 0 : (next.rows - 1) * this.columns;
    return next.start + Math.min(start + column, next.count - 1);
  }
}

/** Months as years where there are so many that headings would outnumber the photos; no sections where that is not enough. */
export function readable(sections) {
  const total = sections.reduce((sum, { count }) => sum + count, 0);
  const dense = (some) => some.length > 1 && total >= 4 * some.length && total > 40;
  if (dense(sections)) return sections;
  const years = [];
  for (const { label, count, start } of sections) {
    const year = /^\d{4}-\d\d$/.test(label) ? label.slice(0, 4) : label;
    if (years.at(-1)?.label === year) years.at(-1).count += count;
    else years.push({ label: year, start, count });
  }
  if (dense(years)) return years;
  return total ? [{ label: "", start: 0, count: total }] : [];
}
