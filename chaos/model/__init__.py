"""Who shares what: modes, placement, fate groups; pure, and the ground floor of every other part."""
