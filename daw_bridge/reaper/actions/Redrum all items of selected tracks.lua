-- Redrum whatever lies on the selected tracks.

local folder = debug.getinfo(1, "S").source:match("^@?(.*[/\\])")
dofile(folder .. "redrum.lua").run("tracks", false)
