ardour {
  ["type"] = "EditorAction",
  name = "@NAME@",
  license = "MIT",
  author = "the Redrum authors",
  description = [[@DESCRIPTION@]],
}

function factory()
  return function()
    local folder = ARDOUR.user_config_directory(-1) .. "/redrum/"
    local found, why
    if loadfile then
      found, why = loadfile(folder .. "redrum.lua")
    else
      why = "Ardour keeps its scripts in a sandbox: switch that off in its Preferences, on the page of scripts."
    end
    if found then
      found(folder).run("@SCOPE@", @IS_REPEATED@, @EDITS@)
    else
      LuaDialog.Message("Redrum", why, LuaDialog.MessageType.Info, LuaDialog.ButtonType.Close):run()
    end
  end
end
