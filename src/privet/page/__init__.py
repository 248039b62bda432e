"""The page on which a person protects a file of theirs: everything runs in their own browser."""

from privet.page.assemble import assemble, write_page
from privet.page.serve import DEFAULT_PORT, serve, serving

__all__ = ["DEFAULT_PORT", "assemble", "serve", "serving", "write_page"]
