// What is installed apart from the tree, and what is sent.

import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import path from "node:path";
import { pathToFileURL } from "node:url";

const installed = createRequire(path.join(process.cwd(), "package.json"));

/** A package of those in the folder where this runs. */
export const library = (name) => import(pathToFileURL(installed.resolve(name)));

/** The text of a payload. */
export const payload = (name) => readFileSync(new URL(`payloads/${name}`, import.meta.url), "utf8");

/** Data that a package holds. */
export const data = (name) => installed(name);
