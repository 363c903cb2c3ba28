/** The benchmarks' arithmetic and tables. */
import { describe, expect, test } from 'vitest';
import { median, present, ratio, rotated, summarize } from '../../bench/harness/statistics.ts';
import { figure, markdownTable, textTable, times } from '../../bench/harness/table.ts';

describe('samples', () => {
  test('the median is the middle value, or the mean of the two in the middle, in whatever order', () => {
    expect(median([7, 1, 3])).toBe(3);
    expect(median([10, 2, 4, 8])).toBe(6);
    expect(median([5])).toBe(5);
    expect(median([])).toBeNaN();
  });

  test('the median compares numbers, not their text, and leaves the list as it was', () => {
    const values = [100, 9, 20];
    expect(median(values)).toBe(20);
    expect(values).toEqual([100, 9, 20]);
  });

  test('a summary of nothing has no numbers', () => {
    expect(summarize([3, 1, 2])).toEqual({ count: 3, median: 2, min: 1, max: 3 });
    expect(summarize([])).toEqual({ count: 0, median: Number.NaN, min: Number.NaN, max: Number.NaN });
  });

  test('a ratio is of the medians, and round by round where both have a sample', () => {
    const { ofMedians, byRound } = ratio([20, undefined, 40, 90], [10, 10, 10, undefined]);
    expect(ofMedians).toBe(4);
    expect(byRound).toEqual({ count: 2, median: 3, min: 2, max: 4 });
  });

  test('a ratio to nothing is no number', () => {
    expect(ratio([1, 2], []).ofMedians).toBeNaN();
    expect(ratio([1], [0]).byRound.count).toBe(0);
  });

  test('present keeps zeros', () => {
    expect(present([0, undefined, 2])).toEqual([0, 2]);
  });

  test('over as many rounds as there are elements, each stands at each place once', () => {
    const list = ['a', 'b', 'c'];
    const rounds = [0, 1, 2].map((round) => rotated(list, round));
    for (let place = 0; place < 3; place++) expect(rounds.map((order) => order[place]).sort()).toEqual(list);
    expect(rotated(list, 3)).toEqual(list);
    expect(rotated([], 5)).toEqual([]);
  });
});

describe('tables', () => {
  const table = {
    columns: [{ title: 'name' }, { title: 'MB/s', align: 'right' as const }],
    rows: [
      ['a', '1,234'],
      ['long|er', '5'],
    ],
  };

  test('text is aligned, numbers to the right, without white space at the ends of lines', () => {
    expect(textTable(table)).toBe(['name      MB/s', '───────  ─────', 'a        1,234', 'long|er      5'].join('\n'));
  });

  test('Markdown escapes what would end a cell', () => {
    expect(markdownTable(table)).toBe(
      ['| name     |  MB/s |', '| -------- | ----: |', '| a        | 1,234 |', '| long\\|er |     5 |'].join('\n'),
    );
  });

  test('a row that is too short gets empty cells', () => {
    expect(markdownTable({ ...table, rows: [['a']] }).split('\n')[2]).toBe('| a    |      |');
  });

  test('figures have three digits, thousands a comma, and nothing is a dash', () => {
    expect([0.1234, 1.19, 12.345, 99.96, 123.4, 5400.6].map(figure)).toEqual(['0.12', '1.19', '12.3', '100', '123', '5,401']);
    expect([undefined, Number.NaN, Number.POSITIVE_INFINITY].map(figure)).toEqual(['–', '–', '–']);
    expect([1.186, undefined, Number.NaN].map(times)).toEqual(['×1.19', '–', '–']);
  });
});
