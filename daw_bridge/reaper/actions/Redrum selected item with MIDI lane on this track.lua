-- Redrum the selected items; their rhythm is the MIDI on their own track.

local folder = debug.getinfo(1, "S").source:match("^@?(.*[/\\])")
dofile(folder .. "redrum.lua").run("lane", false)
