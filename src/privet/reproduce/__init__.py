"""The papers' tables, one file each: run again over several seeds, beside what was published."""
