"""Home: what is here, and what to do first."""

from pages.parts import chrome

chrome.page("Home", ":material/home:")
