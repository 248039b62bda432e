// What the page's modules hand to each other.

/**
 * One person's record: the entries that are not 0.
 *
 * @typedef {object} Ratings
 * @property {number[]} feature ascending
 * @property {number[]} value in [0, 1], as many
 */

/**
 * How a bundle wants to be applied; `docs/bundle-format.md` describes each setting.
 *
 * @typedef {object} Settings
 * @property {number | null} maxSteps
 * @property {[number, number][]} margins
 * @property {Policy} policy
 * @property {Float64Array} low one value a feature
 * @property {Float64Array} high one value a feature
 * @property {number[]} never
 * @property {"targets" | "answers"} mechanism
 * @property {number} temperature
 * @property {number} leak
 */

/** @typedef {"modify_add" | "modify_exist" | "add_new"} Policy */

/**
 * What a bundle's maker computed for a record, for others to compare with.
 *
 * @typedef {object} SelfTest
 * @property {Ratings} record
 * @property {number} budget
 * @property {Ratings} release
 * @property {number[]} posterior
 */

/**
 * A defense model, its settings, and its card. Only attribute bundles come this far.
 *
 * @typedef {object} Bundle
 * @property {"attribute"} kind
 * @property {import("./network.js").Network} network
 * @property {Float64Array} prior one probability a class
 * @property {Settings} settings
 * @property {string[] | null} featureNames
 * @property {string[] | null} classNames
 * @property {Record<string, unknown>} card whatever the maker states; plain JSON
 * @property {SelfTest[]} selfTest
 * @property {string} digest 64 hexadecimal digits
 */

/**
 * What a person allows, over the bundle's own settings.
 *
 * @typedef {object} Rules
 * @property {Policy} [policy]
 * @property {ReadonlySet<number>} [keep] features that stay as they are
 */

/** @typedef {{feature: number, before: number, after: number}} Change */

/**
 * One possible release.
 *
 * @typedef {object} Candidate
 * @property {Change[]} changes ascending by feature
 * @property {number} cost how many entries change
 * @property {number} target the class that the changes aim at
 * @property {boolean} reached whether the search found changes, these or more of them, after which
 *   the defense model says the target
 * @property {Float64Array} posterior what the defense model makes of it
 */

/**
 * What may be released at one budget, and with which probability.
 *
 * @typedef {object} Plan
 * @property {Candidate[]} candidates
 * @property {Float64Array} psi one probability a candidate, summing to 1
 * @property {number} expectedCost mean number of changed entries, at most the budget
 * @property {Float64Array} expected the mean of the candidates' posteriors
 */

/** @typedef {(budget: number) => Plan} Search what to do with the ways found for one record */

/**
 * What chance and key decided, once and for all.
 *
 * @typedef {object} Release
 * @property {Ratings} record
 * @property {Change[]} changes ascending by feature
 * @property {number} cost
 * @property {number} target
 * @property {boolean} reached
 * @property {number} expectedCost
 * @property {Float64Array} posterior what the defense model makes of the released record
 */

/**
 * A person's file, read.
 *
 * @typedef {object} Table
 * @property {Ratings[]} records at least one
 * @property {(records: Ratings[]) => string} write returns the file with these records instead,
 *   as many, in the same format
 */

export {};
