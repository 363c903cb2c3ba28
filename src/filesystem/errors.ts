export { ERRNO, ERRNO_MAX, errnoName, errnoOf, FuseError } from '../session/errors.ts';
