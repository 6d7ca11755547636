-- A session of Ardour: facts about it for Redrum, and takes put into it.
--
-- Nothing is decided here: what the facts mean is decided in daw_bridge/ardour/facts.py.

local session = {}

local FOLDER = ...
local json = assert(loadfile(FOLDER .. "redrum_json.lua"))()

local UNDO = "Redrum"
local TICKS = 1920 -- of a quarter note
local TEMPO_STEP = 480 -- ticks between two looks at the tempo

-- Returns what tells a session from others.
local function path_of_session()
  return Session:path() .. "/" .. Session:name()
end

-- Returns whether a session is open, the one that `gather` noted.
function session.is_open(path)
  return Session ~= nil and path_of_session() == path
end

local function id_of(object)
  return object:to_stateful():id():to_s()
end

-- Facts

-- Returns ticks; as a number Ardour 7 gives its scripts no beats.
local function ticks_of(beats)
  local whole, rest = tostring(beats):match("^(%d+):(%d+)$")
  return tonumber(whole) * TICKS + tonumber(rest)
end

local function notes_of(region)
  local notes = json.list()
  local begin = region:position():ticks() - region:start():ticks()
  for note in ARDOUR.LuaAPI.note_list(region:to_midiregion():model()):iter() do
    local beat = (begin + ticks_of(note:time())) / TICKS
    notes[#notes + 1] = json.list({ beat, note:note(), note:velocity(), note:channel() })
  end
  return notes
end

local function sources_of(region, audio)
  local sources = json.list()
  for channel = 0, audio:n_channels() - 1 do
    local file = region:source(channel):to_filesource()
    if file:isnil() then
      return json.list()
    end
    sources[#sources + 1] = json.list({ file:path(), file:channel() })
  end
  return sources
end

local function region_facts(region, place, is_chosen)
  local facts = {
    id = id_of(region),
    track = place,
    name = region:name(),
    is_selected = is_chosen,
    position = region:position():samples(),
    length = region:length():samples(),
    is_muted = region:muted(),
  }
  local audio = region:to_audioregion()
  if audio:isnil() then
    facts.notes = notes_of(region)
  else
    facts.start, facts.gain = region:start():samples(), audio:scale_amplitude()
    facts.layer, facts.is_opaque = region:layer(), region:opaque()
    facts.sources = sources_of(region, audio)
  end
  return facts
end

-- Returns the changes of tempo (ticks, sample, BPM) and of metre (ticks, numerator, denominator) up to a sample.
--
-- Ardour gives no list of them. Between two looks at the map the tempo is that of their middle.
local function tempo_facts(end_sample)
  local map = Temporal.TempoMap.read()
  local tempo, metres, bpm, metre, ticks, sample = json.list(), json.list(), nil, "", 0, 0
  while sample <= end_sample or ticks == 0 do
    local middle = Temporal.timepos_t.from_ticks(ticks + TEMPO_STEP // 2)
    local found = map:meter_at(middle)
    local beats, unit = found:divisions_per_bar(), found:note_value()
    sample = map:sample_at(Temporal.timepos_t.from_ticks(ticks))
    if map:quarters_per_minute_at(middle) ~= bpm then
      bpm = map:quarters_per_minute_at(middle)
      tempo[#tempo + 1] = json.list({ ticks, sample, bpm })
    end
    if beats .. "/" .. unit ~= metre then
      metre = beats .. "/" .. unit
      metres[#metres + 1] = json.list({ ticks, beats, unit })
    end
    ticks = ticks + TEMPO_STEP
  end
  return tempo, metres
end

-- Returns the tracks from the top, and the names of their groups by their ids.
local function tracks_of_session()
  local tracks, groups = {}, {}
  for route in Session:get_tracks():iter() do
    tracks[#tracks + 1] = route
  end
  table.sort(tracks, function(one, other)
    return one:presentation_info_ptr():order() < other:presentation_info_ptr():order()
  end)
  for group in Session:route_groups():iter() do
    for route in group:route_list():iter() do
      groups[id_of(route)] = group:name()
    end
  end
  return tracks, groups
end

local function begins_like(name, beginnings)
  for _, beginning in ipairs(beginnings) do
    if name:lower():sub(1, #beginning) == beginning then
      return true
    end
  end
  return false
end

-- Returns the ids of what is chosen: selected regions, or tracks.
local function chosen_ids(scope)
  local ids, selection = {}, Editor:get_selection()
  local chosen = scope == "tracks" and selection.tracks:routelist() or selection.regions:regionlist()
  for object in chosen:iter() do
    ids[id_of(object)] = true
  end
  return ids
end

-- Returns the facts of the session, and how many of its regions are chosen; changes nothing.
--
-- scope: "regions", the selected ones; "tracks", all of selected tracks.
-- rhythm_tracks: how the names of tracks begin, in lower case, whose regions are gathered anyway.
function session.gather(scope, rhythm_tracks)
  local ids, n_chosen, end_sample = chosen_ids(scope), 0, Session:current_end_sample()
  local tracks, groups = tracks_of_session()
  local facts = {
    daw = "ardour",
    path = path_of_session(),
    folder = Session:path(),
    sample_rate = Session:nominal_sample_rate(),
    tracks = json.list(),
    items = json.list(),
  }
  for place, route in ipairs(tracks) do
    local id, name = id_of(route), route:name()
    local color = route:presentation_info_ptr():color()
    facts.tracks[place] = { id = id, name = name, color = color, group = groups[id] }
    local is_rhythm_track = begins_like(name, rhythm_tracks)
    for region in route:to_track():playlist():region_list():iter() do
      local is_chosen = ids[scope == "tracks" and id or id_of(region)] or false
      if is_chosen or is_rhythm_track then
        n_chosen = n_chosen + (is_chosen and 1 or 0)
        facts.items[#facts.items + 1] = region_facts(region, place - 1, is_chosen)
        end_sample = math.max(end_sample, region:position():samples() + region:length():samples())
      end
    end
  end
  facts.tempo, facts.metres = tempo_facts(end_sample)
  return facts, n_chosen
end

-- Takes

-- Returns the sound that Ardour copies from a file into the session, as a region that is on no track yet; nil where
-- it does not, of which it says nothing.
local function imported(file, track)
  local is_known = {}
  for id in ARDOUR.RegionFactory.regions():iter() do
    is_known[id:to_s()] = true
  end
  local files = C.StringVector()
  files:push_back(file)
  -- Ardour gives up what has begun when an import begins, and then notes no undo step for the import.
  Session:begin_reversible_command(UNDO)
  Editor:do_import(
    files,
    Editing.ImportDistinctFiles,
    Editing.ImportAsRegion,
    ARDOUR.SrcQuality.SrcBest,
    ARDOUR.MidiTrackNameSource.SMFTrackName,
    ARDOUR.MidiTempoMapDisposition.SMFTempoIgnore,
    Temporal.timepos_t(0),
    ARDOUR.PluginInfo(),
    track, -- which stays as it is
    false
  )
  Session:abort_reversible_command()
  for id, region in ARDOUR.RegionFactory.regions():iter() do
    if not is_known[id:to_s()] and not region:to_audioregion():isnil() then
      return region
    end
  end
end

-- Returns the regions of all planned items, or nil and what is wrong with what Ardour made of one: where a disk is full
-- it says nothing, and its region is too short.
local function import_all(tracks)
  local any
  for route in Session:get_tracks():iter() do
    any = route:to_track()
  end
  local regions = {}
  for _, planned in ipairs(tracks) do
    for _, item in ipairs(planned.items) do
      local region = any and imported(item.file, any)
      if not region then
        return nil, "Ardour does not take " .. item.name .. ": check its rights on the session's folder, and the disk."
      elseif
        region:length():samples() ~= item.n_samples
        or region:to_audioregion():n_channels() ~= item.n_channels
      then
        local what = "Ardour took only a part of " .. item.name .. ", so it is not put in"
        return nil, what .. ": make room on the session's disk."
      end
      regions[item] = region
    end
  end
  return regions
end

local function new_track(planned, order)
  local n_channels = 1
  for _, item in ipairs(planned.items) do
    n_channels = math.max(n_channels, item.n_channels)
  end
  local mode = ARDOUR.TrackMode.Normal
  for route in Session:new_audio_track(n_channels, 2, nil, 1, planned.name, order, mode, false):iter() do
    route:presentation_info_ptr():set_color(planned.color)
    return route
  end
end

local function sample_of(time_s)
  return math.floor(time_s * Session:nominal_sample_rate() + 0.5)
end

local function place_item(playlist, item, region)
  local placed = ARDOUR.RegionFactory.clone_region(region, true, false)
  placed:set_name(item.name)
  playlist:add_region(placed, Temporal.timepos_t(sample_of(item.position_s)), 1, false)
  -- Ardour would fade in over the first hit.
  placed:to_audioregion():set_fade_in_active(false)
  placed:to_audioregion():set_fade_out_active(false)
end

-- Moves the end of the session behind takes, as Ardour does where sound is imported, unless its user set it.
local function extend_session(tracks)
  local range = Session:locations():session_range_location()
  if not range or not Session:session_range_is_free() then
    return
  end
  for _, planned in ipairs(tracks) do
    for _, item in ipairs(planned.items) do
      local end_sample = sample_of(item.position_s) + item.n_samples
      if end_sample > Session:current_end_sample() then
        range:set_end(Temporal.timepos_t(end_sample), true)
      end
    end
  end
end

-- Puts takes on new tracks, each below its source track, from the lowest on, so that no place changes; at the end where
-- that is gone. One undo takes all of them back, and leaves the tracks and the session's end, which Ardour cannot undo.
--
-- Returns why nothing was done, nil where all was.
function session.write_back(tracks)
  local regions, problem = import_all(tracks)
  if not regions then
    return problem
  end
  local order_of = {}
  for route in Session:get_tracks():iter() do
    order_of[id_of(route)] = route:presentation_info_ptr():order() + 1
  end
  table.sort(tracks, function(one, other)
    return (order_of[one.id] or math.huge) > (order_of[other.id] or math.huge)
  end)
  local routes = {}
  for _, planned in ipairs(tracks) do
    routes[planned] = new_track(planned, order_of[planned.id] or ARDOUR.PresentationInfo.max_order)
  end
  Session:begin_reversible_command(UNDO)
  for _, planned in ipairs(tracks) do
    local playlist = routes[planned]:to_track():playlist()
    playlist:to_stateful():clear_changes()
    for _, item in ipairs(planned.items) do
      place_item(playlist, item, regions[item])
    end
    Session:add_stateful_diff_command(playlist:to_statefuldestructible())
  end
  Session:commit_reversible_command(nil)
  extend_session(tracks)
end

return session
