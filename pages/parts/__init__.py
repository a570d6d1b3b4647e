"""What the pages share; in a folder of its own, because every file directly in pages/ becomes a page."""
