// Pictures of any shape into rows of one width: each row is as high as makes it fill the width, none is higher than
// asked for. Pure arithmetic.

const NARROW = 0.5;
const WIDE = 2.8;
const CARD = 1.6; // a text

export const shape = ({ width, height }) => (width && height ? Math.min(WIDE, Math.max(NARROW, width / height)) : CARD);

/**
 * The size of each tile, in whole pixels.
 * Gives `{ sizes: [{ width, height }], full }`: `full` is how many tiles stand in rows that are full; the rest is the last row.
 */
export function rows(shapes, width, height, gap) {
  const sizes = [];
  let row = [];
  let sum = 0;
  let full = 0;
  for (const one of shapes) {
    row.push(one);
    sum += one;
    const high = (width - gap * (row.length - 1)) / sum;
    if (high > height) continue;
    sizes.push(...fitted(row, width - gap * (row.length - 1), Math.floor(high)));
    full = sizes.length;
    row = [];
    sum = 0;
  }
  sizes.push(...row.map((one) => ({ width: Math.min(width, Math.floor(one * height)), height })));
  return { sizes, full };
}

/** Widths that add up to `width` exactly: what rounding leaves over goes to the last. */
function fitted(row, width, height) {
  const widths = row.map((one) => Math.floor(one * height));
  const rest = width - widths.reduce((all, one) => all + one, 0);
  return widths.map((one, place) => ({
    width: one + Math.floor((rest * (place + 1)) / row.length) - Math.floor((rest * place) / row.length), height,
  }));
}
