export { ERRNO, ERRNO_MAX, errnoName, errnoOf, FuseError, type FuseErrorDetails } from '../session/errors.ts';
