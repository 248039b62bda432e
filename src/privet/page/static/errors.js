// The errors that the page expects. Every message is one line that names what is wrong.

/** A bundle that is damaged, unsafe, or of an unknown format. */
export class BundleError extends Error {}

/** A person's file that is malformed or does not fit the bundle. */
export class DataError extends Error {}

/** A budget, a rule or a key that makes no sense. */
export class OptionError extends Error {}
