"""Charts as SVG: colours come from the style sheet, so that they follow light and dark."""
