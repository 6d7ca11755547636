-- Edit the rhythm inside the selected item, on a page in the browser.

local folder = debug.getinfo(1, "S").source:match("^@?(.*[/\\])")
dofile(folder .. "redrum.lua").run("items", false, true)
