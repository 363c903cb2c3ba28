/** The little that charts need of SVG: elements, and one set of colours for light and dark. */

export type Attributes = Readonly<Record<string, string | number>>;

/** Text as it stands in markup. */
export function markup(text: string): string {
  return text.replaceAll('&', '&amp;').replaceAll('<', '&lt;').replaceAll('>', '&gt;').replaceAll('"', '&quot;');
}

/** Coordinates to a tenth: more only makes the file longer. */
function written(value: string | number): string {
  return typeof value === 'number' ? String(Math.round(value * 10) / 10) : markup(value);
}

/** An element; `inside` is markup already. */
export function element(name: string, attributes: Attributes, inside = ''): string {
  const words = Object.entries(attributes).map(([key, value]) => ` ${key}="${written(value)}"`);
  return inside === '' ? `<${name}${words.join('')}/>` : `<${name}${words.join('')}>${inside}</${name}>`;
}

export function text(x: number, y: number, content: string, attributes: Attributes = {}): string {
  return element('text', { x, y, ...attributes }, markup(content));
}

/** Something that says more when pointed at. */
export function titled(drawn: string, title: string): string {
  return element('g', {}, element('title', {}, markup(title)) + drawn);
}

/** Classes: ours-0 to ours-3, peer, native, floor, faint, grid; each for lines (stroke) and marks (fill). */
const STYLE = `
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.small { font-size: 11px } .faint { fill: #59636e } .title { font-size: 15px; font-weight: 600 }
.back { fill: #ffffff } .grid { stroke: #d1d9e0 } .even { stroke: #59636e }
.ours-0 { --c: #0969da } .ours-1 { --c: #bc4c00 } .ours-2 { --c: #1a7f37 } .ours-3 { --c: #8250df }
.peer { --c: #8c959f } .native { --c: #1f2328 } .floor { --c: #bf3989 }
.mark { fill: var(--c) } .hollow { fill: none; stroke: var(--c); stroke-width: 1.5 }
.line { fill: none; stroke: var(--c); stroke-width: 2 }
@media (prefers-color-scheme: dark) {
  text { fill: #f0f6fc } .faint { fill: #9198a1 } .back { fill: #0d1117 } .grid { stroke: #3d444d } .even { stroke: #9198a1 }
  .ours-0 { --c: #4493f8 } .ours-1 { --c: #f0883e } .ours-2 { --c: #3fb950 } .ours-3 { --c: #ab7df8 }
  .peer { --c: #7d8590 } .native { --c: #f0f6fc } .floor { --c: #db61a2 }
}`;

/** A whole picture, that states its own size and stands on its own ground. */
export function picture(width: number, height: number, about: string, inside: readonly string[]): string {
  const frame = { xmlns: 'http://www.w3.org/2000/svg', width, height, viewBox: `0 0 ${width} ${height}`, role: 'img' };
  const ground = element('rect', { class: 'back', width, height });
  return `${element('svg', frame, [element('title', {}, markup(about)), element('style', {}, STYLE), ground, ...inside].join('\n'))}\n`;
}

/** A position on a logarithmic axis from `from` to `to`, held within `least` and `most`. */
export function logScale(least: number, most: number, from: number, to: number): (value: number) => number {
  const span = Math.log(most / least);
  return (value) => {
    const share = Math.log(Math.min(most, Math.max(least, value)) / least) / span;
    return from + share * (to - from);
  };
}

/** A round number not below `value`: 1, 2 or 5 times a power of ten. */
export function roundUp(value: number): number {
  const power = 10 ** Math.floor(Math.log10(value));
  return ([1, 2, 5].find((factor) => factor * power >= value) ?? 10) * power;
}
