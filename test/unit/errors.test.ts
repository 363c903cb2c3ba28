/** Errors look as those of node:fs do. */
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { describe, expect, test } from 'vitest';
import { ERRNO_MAX, errnoName, errnoOf, FuseError } from '../../src/filesystem/index.ts';

function nodesOwn(): NodeJS.ErrnoException {
  try {
    readFileSync('/no/such/file');
  } catch (error) {
    return error as NodeJS.ErrnoException;
  }
  throw new Error('the file exists');
}

describe('FuseError', () => {
  test('has the code, errno, syscall, path and message that node:fs gives', () => {
    const theirs = nodesOwn();
    const ours = new FuseError('ENOENT', { syscall: 'open', path: '/no/such/file' });
    const shown = ({ code, errno, syscall, path, message }: NodeJS.ErrnoException) => ({ code, errno, syscall, path, message });
    expect(shown(ours)).toEqual(shown(theirs));
  });

  test('takes a name, a number, a message, and nothing else', () => {
    expect(new FuseError(13)).toMatchObject({ code: 'EACCES', errno: -13, message: 'EACCES: permission denied' });
    expect(new FuseError('EIO', 'the disk is gone')).toMatchObject({ code: 'EIO', message: 'the disk is gone' });
    expect('path' in new FuseError('EIO')).toBe(false);
    for (const wrong of ['ENONSENSE', 0, -2, ERRNO_MAX + 1, 1.5]) expect(() => new FuseError(wrong)).toThrow(RangeError);
  });

  test('of() gives one error per errno, with no stack to pay for', () => {
    expect(FuseError.of(-2)).toBe(FuseError.of(2));
    expect(FuseError.of(2).stack?.split('\n')).toHaveLength(1);
    expect(Error.stackTraceLimit).toBeGreaterThan(0);
  });
});

describe('errnoOf', () => {
  test.each<[unknown, number]>([
    [nodesOwn(), 2],
    [{ errno: 5 }, 5],
    [{ errno: 'ENOENT' }, 0],
    [{ code: 'EXDEV' }, constants.errno.EXDEV],
    [{ errno: -4096, code: 'EROFS' }, constants.errno.EROFS],
    [new DOMException('', 'AbortError'), constants.errno.EINTR],
    [new Error('x'), 0],
    [null, 0],
    ['ENOENT', 0],
  ])('%o', (error, errno) => {
    expect(errnoOf(error)).toBe(errno);
  });

  test('names that share a number have the one that users know', () => {
    expect([errnoName(11), errnoName(95), errnoName(400)]).toEqual(['EAGAIN', 'EOPNOTSUPP', 'errno 400']);
  });
});
