-- A project of REAPER: facts about it for Redrum, and takes put into it.
--
-- Nothing is decided here. The facts are those of daw_bridge/reaper/inside.py, in the same terms.

local session = {}

local here = debug.getinfo(1, "S").source:match("^@?(.*[/\\])")
local json = dofile(here .. "redrum_json.lua")

local UNDO = "Redrum"
local BUILD_MISSING_PEAKS = 40047
local FIXED_LANES = 2 -- a track's mode in which items lie on lanes, of which some play

-- Returns a project and where it was saved, "" where it never was; nil where there is no such tab.
function session.project(tab)
  local project, path = reaper.EnumProjects(tab)
  return project, path or ""
end

-- Facts

local function track_text(track, key)
  local _, text = reaper.GetSetMediaTrackInfo_String(track, key, "", false)
  return text
end

-- Returns the file at the bottom of a source, which sections and reversals lie on.
local function file_of(source)
  local parent = reaper.GetMediaSourceParent(source)
  while parent do
    source, parent = parent, reaper.GetMediaSourceParent(parent)
  end
  return reaper.GetMediaSourceFileName(source)
end

local function notes_of(take)
  local notes = json.list()
  local _, n_notes = reaper.MIDI_CountEvts(take)
  for number = 0, n_notes - 1 do
    local _, _, is_muted, ppq, _, channel, pitch, velocity = reaper.MIDI_GetNote(take, number)
    if not is_muted then
      local beat = reaper.MIDI_GetProjQNFromPPQPos(take, ppq)
      notes[#notes + 1] = json.list({ beat, pitch, velocity, channel })
    end
  end
  return notes
end

-- Returns of each stretch marker where it is in the item and in the file, and how the speed glides after it.
local function markers_of(take)
  local markers = json.list()
  for number = 0, reaper.GetTakeNumStretchMarkers(take) - 1 do
    local _, place, file_s = reaper.GetTakeStretchMarker(take, number)
    local slope = reaper.GetTakeStretchMarkerSlope(take, number)
    markers[#markers + 1] = json.list({ place, file_s, slope })
  end
  return markers
end

local function take_facts(take, source)
  local function value(key)
    return reaper.GetMediaItemTakeInfo_Value(take, key)
  end
  local facts = {
    name = reaper.GetTakeName(take),
    start_offset_s = value("D_STARTOFFS"),
    play_rate = value("D_PLAYRATE"),
    keeps_pitch = value("B_PPITCH") ~= 0,
    channel_mode = math.floor(value("I_CHANMODE")),
    level = json.list({ value("D_VOL"), value("D_PAN"), value("D_PANLAW") }),
    markers = markers_of(take),
    is_midi = reaper.TakeIsMIDI(take),
  }
  if facts.is_midi then
    local length, is_in_beats = reaper.GetMediaSourceLength(source)
    facts.notes = notes_of(take)
    facts.source_beats = is_in_beats and length or 0
    return facts
  end
  local is_section, start_s, length_s, is_reversed = reaper.PCM_Source_GetSectionInfo(source)
  if is_section then
    facts.section = json.list({ start_s, length_s, is_reversed })
  end
  facts.file = file_of(source)
  return facts
end

-- Returns the length of a fade, that of an automatic one and the shape; nil where there is none.
local function fade_facts(value, name)
  local length_s, automatic_s = value("D_" .. name .. "LEN"), value("D_" .. name .. "LEN_AUTO")
  if length_s > 0 or automatic_s > 0 then
    return json.list({ length_s, automatic_s, value("C_" .. name .. "SHAPE") })
  end
end

local function item_facts(item, place, is_chosen, has_lanes)
  local function value(key)
    return reaper.GetMediaItemInfo_Value(item, key)
  end
  local _, id = reaper.GetSetMediaItemInfo_String(item, "GUID", "", false)
  local take = reaper.GetActiveTake(item)
  local source = take and reaper.GetMediaItemTake_Source(take)
  return {
    id = id,
    track = place,
    is_selected = is_chosen,
    position_s = value("D_POSITION"),
    length_s = value("D_LENGTH"),
    group = math.floor(value("I_GROUPID")),
    is_muted = value("B_MUTE") ~= 0,
    is_looped = value("B_LOOPSRC") ~= 0,
    is_silent_lane = has_lanes and value("C_LANEPLAYS") <= 0,
    volume = value("D_VOL"),
    fade_in = fade_facts(value, "FADEIN"),
    fade_out = fade_facts(value, "FADEOUT"),
    take = source and take_facts(take, source) or nil,
  }
end

local function tempo_points(project)
  local points = json.list()
  for number = 0, reaper.CountTempoTimeSigMarkers(project) - 1 do
    local _, at_s, _, _, bpm, _, _, is_gliding = reaper.GetTempoTimeSigMarker(project, number)
    points[#points + 1] = json.list({ at_s, bpm, is_gliding })
  end
  return points
end

-- Returns time, numerator and denominator of each change of the metre; the first is the project's beginning.
local function metres_of(project)
  local numerator, denominator = reaper.TimeMap_GetTimeSigAtTime(project, 0)
  local metres = json.list({ json.list({ 0, numerator, denominator }) })
  for number = 0, reaper.CountTempoTimeSigMarkers(project) - 1 do
    local _, at_s, _, _, _, beats, unit = reaper.GetTempoTimeSigMarker(project, number)
    if beats > 0 then
      metres[#metres + 1] = json.list({ at_s, beats, unit })
    end
  end
  return metres
end

-- Returns a number among the settings of the current project, which an old REAPER does not tell.
local function setting(name, default)
  if not reaper.APIExists("get_config_var_string") then
    return default
  end
  local is_known, text = reaper.get_config_var_string(name)
  return is_known and tonumber(text) or default
end

local function begins_like(name, beginnings)
  for _, beginning in ipairs(beginnings) do
    if name:lower():sub(1, #beginning) == beginning then
      return true
    end
  end
  return false
end

-- Adds what is chosen on a track, and what may be a rhythm there; returns how many items are chosen.
local function gather_track(track, place, scope, is_rhythm_track, items)
  local has_lanes = reaper.GetMediaTrackInfo_Value(track, "I_FREEMODE") == FIXED_LANES
  local takes_all = scope == "tracks" and reaper.IsTrackSelected(track)
  local is_chosen, n_chosen, found = {}, 0, {}
  for number = 0, reaper.CountTrackMediaItems(track) - 1 do
    local item = reaper.GetTrackMediaItem(track, number)
    found[number] = item
    is_chosen[number] = takes_all
      or (scope ~= "tracks" and reaper.GetMediaItemInfo_Value(item, "B_UISEL") ~= 0)
    n_chosen = n_chosen + (is_chosen[number] and 1 or 0)
  end
  for number = 0, reaper.CountTrackMediaItems(track) - 1 do
    local take = reaper.GetActiveTake(found[number])
    local is_lane = scope == "lane" and n_chosen > 0 and take and reaper.TakeIsMIDI(take)
    if is_chosen[number] or is_rhythm_track or is_lane then
      items[#items + 1] = item_facts(found[number], place, is_chosen[number], has_lanes)
    end
  end
  return n_chosen
end

-- Returns the facts of a project, and how many of its items are chosen; changes nothing.
--
-- scope: "items", the selected ones; "lane", the same and the MIDI beside them; "tracks", all of selected tracks.
-- rhythm_tracks: how the names of tracks begin, in lower case, whose items are gathered anyway.
function session.gather(project, path, scope, rhythm_tracks)
  local bpm = reaper.GetProjectTimeSignature2(project)
  local facts = {
    project = tostring(project),
    path = path,
    media_folder = reaper.GetProjectPathEx(project),
    bpm = bpm,
    points = tempo_points(project),
    metres = metres_of(project),
    bar_offset = setting("projmeasoffs", 0),
    pan_law = setting("panlaw", 1),
    tracks = json.list(),
    items = json.list(),
  }
  local n_chosen = 0
  for place = 0, reaper.CountTracks(project) - 1 do
    local track = reaper.GetTrack(project, place)
    local name = track_text(track, "P_NAME")
    local color = math.floor(reaper.GetMediaTrackInfo_Value(track, "I_CUSTOMCOLOR"))
    local depth = math.floor(reaper.GetMediaTrackInfo_Value(track, "I_FOLDERDEPTH"))
    facts.tracks[place + 1] =
      { id = track_text(track, "GUID"), name = name, color = color, folder_depth = depth }
    local is_rhythm_track = begins_like(name, rhythm_tracks)
    n_chosen = n_chosen + gather_track(track, place, scope, is_rhythm_track, facts.items)
  end
  return facts, n_chosen
end

-- Takes

-- Returns whether a project is still in one of the tabs: a pointer alone may stand for another by now.
local function is_open(project, path)
  local tab = 0
  while true do
    local found, found_path = session.project(tab)
    if not found then
      return false
    elseif found == project then
      return found_path == path or path == "" -- saved in the meantime
    end
    tab = tab + 1
  end
end

local function insert_item(track, planned, sources)
  local item = reaper.AddMediaItemToTrack(track)
  reaper.SetMediaItemInfo_Value(item, "D_POSITION", planned.position_s)
  reaper.SetMediaItemInfo_Value(item, "D_LENGTH", planned.length_s)
  reaper.SetMediaItemInfo_Value(item, "B_LOOPSRC", 0)
  local take = reaper.AddTakeToMediaItem(item)
  reaper.SetMediaItemTake_Source(take, sources[planned])
  sources[planned] = nil -- the take's own from now on
  reaper.GetSetMediaItemTakeInfo_String(take, "P_NAME", planned.name, true)
end

local function set_depths(depths)
  for _, change in ipairs(depths) do
    reaper.SetMediaTrackInfo_Value(change.track, "I_FOLDERDEPTH", change.depth)
  end
end

-- Lets a new track end the folders that its source track above it ends; `closing` gets that, with its depth.
local function end_folders(project, place, track, closing)
  local source = reaper.GetTrack(project, place - 1)
  local depth = reaper.GetMediaTrackInfo_Value(source, "I_FOLDERDEPTH")
  if depth < 0 then
    closing[#closing + 1] = { track = source, depth = depth }
    set_depths({ { track = source, depth = 0 }, { track = track, depth = depth } })
  end
end

-- Inserts tracks, from the lowest on, so that no place changes; below all where a track is gone.
local function insert(project, tracks, sources, created, closing)
  local n_tracks = reaper.CountTracks(project)
  local below = {}
  for place = 0, n_tracks - 1 do
    below[track_text(reaper.GetTrack(project, place), "GUID")] = place + 1
  end
  table.sort(tracks, function(one, other)
    return (below[one.id] or n_tracks) > (below[other.id] or n_tracks)
  end)
  for _, planned in ipairs(tracks) do
    local place = below[planned.id] or n_tracks
    reaper.InsertTrackAtIndex(place, false)
    local track = reaper.GetTrack(project, place)
    created[#created + 1] = track
    reaper.GetSetMediaTrackInfo_String(track, "P_NAME", planned.name, true)
    if planned.color ~= 0 then
      reaper.SetMediaTrackInfo_Value(track, "I_CUSTOMCOLOR", planned.color)
    end
    for _, item in ipairs(planned.items) do
      insert_item(track, item, sources)
    end
    if below[planned.id] then
      end_folders(project, place, track, closing)
    end
  end
end

local function close_sources(sources)
  for _, source in pairs(sources) do
    reaper.PCM_Source_Destroy(source)
  end
end

-- Returns the sources of all items, or nil and the file that REAPER cannot read.
local function open_sources(tracks)
  local sources = {}
  for _, track in ipairs(tracks) do
    for _, item in ipairs(track.items) do
      sources[item] = reaper.PCM_Source_CreateFromFile(item.file)
      if not sources[item] then
        close_sources(sources)
        return nil, item.file
      end
    end
  end
  return sources
end

-- Puts takes on new tracks, each directly below its source track, as one undo step; all of them or none.
-- Below the last track of a folder, a new track becomes the last.
--
-- Returns why nothing was done, nil where all was.
function session.write_back(project, path, tracks)
  if not is_open(project, path) then
    return "The project was closed in the meantime: nothing was written."
  end
  local sources, unreadable = open_sources(tracks) -- before anything is changed, so that there is no undo step
  if not sources then
    return "REAPER cannot read " .. unreadable .. ": check its rights on the project's folder."
  end
  local in_front = session.project(-1)
  if in_front ~= project then -- tracks are inserted into the current tab only
    reaper.SelectProjectInstance(project)
  end
  local created, closing = {}, {}
  reaper.PreventUIRefresh(1)
  reaper.Undo_BeginBlock2(project)
  local is_done, why = pcall(insert, project, tracks, sources, created, closing)
  if not is_done then
    for _, track in ipairs(created) do
      reaper.DeleteTrack(track)
    end
    set_depths(closing)
    close_sources(sources)
  end
  reaper.Undo_EndBlock2(project, UNDO, -1)
  if not is_done and reaper.Undo_CanUndo2(project) == UNDO then
    reaper.Undo_DoUndo2(project)
  end
  reaper.PreventUIRefresh(-1)
  if is_done then
    reaper.Main_OnCommand(BUILD_MISSING_PEAKS, 0)
  end
  if in_front ~= project then
    reaper.SelectProjectInstance(in_front)
  end
  reaper.UpdateArrange()
  return not is_done and "REAPER did not take the takes, nothing was written: " .. tostring(why) or nil
end

return session
