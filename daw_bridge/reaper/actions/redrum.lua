-- What Redrum does inside REAPER, for all of its actions.
--
-- It gathers facts about the project, asks for settings, and has the `redrum` command do the work in a process
-- of its own, which answers in files; then it puts the takes into the project. What the facts mean, which item is
-- whose rhythm, and every sentence about them is decided in that process.

local redrum = {}

local here = debug.getinfo(1, "S").source:match("^@?(.*[/\\])")
local json = dofile(here .. "redrum_json.lua")
local session = dofile(here .. "redrum_session.lua")

local SCHEMA = 1 -- of the files that both sides write
local TITLE = "Redrum"
local LOOK_S = 0.2 -- between two looks at the files
local LOST_S = 60 -- a job that is silent as long as this is lost; it writes twice a second
local DOUBT_S = 10 -- the same, where REAPER says that it did not start: that may be wrong
local OLD_S = 24 * 3600 -- files of a job as old as this were left behind
local NO_WAIT_MINIMISED = -2
local WIDTH, HEIGHT, MARGIN, BUTTON = 380, 96, 14, 84

local DEFAULTS = {
  rhythm = "",
  engine = "resequence",
  length = "source",
  seed = "0",
  kit = "auto",
  slices = "one take",
  start_bar = "",
}
local CAPTIONS = {
  rhythm = "Rhythm (name or file; none: in project)",
  engine = "Engine (resequence or latent)",
  length = "Length (source; rhythm; or seconds)",
  seed = "Seed",
  kit = "Microphones (auto; together; or apart)",
  slices = "Slices of a track (one take; or per item)",
  start_bar = "Bar 1 on the project's bar (none: the take's)",
}

-- Questions

local function show(text)
  reaper.ShowMessageBox(text, TITLE, 0)
end

-- Returns answers to questions, nil where the user cancels.
local function ask(title, captions, answers)
  local separator = "\n" -- unlike a comma, in no file name
  local fields = table.concat(captions, ",") .. ",extrawidth=260,separator=" .. separator
  local is_answered, text = reaper.GetUserInputs(title, #captions, fields, table.concat(answers, separator))
  if not is_answered then
    return nil
  end
  local found = {}
  for answer in (text .. separator):gmatch("(.-)" .. separator) do
    found[#found + 1] = answer:match("^%s*(.-)%s*$")
  end
  return found
end

-- Returns the last answers by name, none the first time.
local function last_answers()
  local is_json, answers = pcall(json.decode, reaper.GetExtState(TITLE, "answers"))
  return is_json and type(answers) == "table" and answers or {}
end

-- Returns the order, answered now or the last time; nil where the user cancels.
local function new_order(scope, is_repeated)
  local names = { "engine", "length", "seed", "kit", "slices" }
  if scope ~= "lane" then -- the rhythm on a lane lies where it is
    table.insert(names, 1, "rhythm")
    table.insert(names, "start_bar")
  end
  local answers, captions, offered = last_answers(), {}, {}
  for place, name in ipairs(names) do
    is_repeated = is_repeated and answers[name] ~= nil
    captions[place], offered[place] = CAPTIONS[name], answers[name] or DEFAULTS[name]
  end
  local found = is_repeated and offered or ask(TITLE, captions, offered)
  if not found then
    return nil
  end
  local order = { rhythm = "", is_on_own_track = scope == "lane" }
  for place, name in ipairs(names) do
    order[name], answers[name] = found[place] or "", found[place] or ""
  end
  reaper.SetExtState(TITLE, "answers", json.encode(answers), true)
  return order
end

-- Jobs: a table with the files of a job, the project that it is from, and how far it is

local function remove_files(job)
  for _, file in pairs(job.files) do
    os.remove(file)
  end
end

local function remove_media(result)
  for _, file in ipairs(result.media or {}) do
    os.remove(file)
  end
end

local function close(job)
  job.is_over = true
  gfx.quit()
  remove_files(job)
end

local function cancel(job)
  job.is_cancelled = true
  json.write(job.files.cancel, "")
  gfx.quit()
end

-- Puts tracks into the project; returns what is wrong, "" where nothing is.
local function put_in(job, tracks)
  local is_called, problem = pcall(session.write_back, job.project, job.path, tracks)
  if not problem then
    return ""
  end
  return is_called and problem or ("REAPER did not take the takes: " .. tostring(problem))
end

-- Puts the take into the project that an editor sends, and answers.
local function take_in(job, take)
  if take.number == job.taken then
    return
  end
  job.taken = take.number
  local problem = put_in(job, take.tracks)
  json.write(job.files.taken, json.encode({ schema = SCHEMA, number = take.number, problem = problem }))
end

local function finish(job, result)
  close(job)
  if job.is_cancelled then
    remove_media(result)
    return
  end
  local message = result.message or ""
  if #(result.tracks or {}) > 0 then
    local problem = put_in(job, result.tracks)
    if problem ~= "" then
      remove_media(result)
      message = problem
    end
  end
  if message ~= "" then
    show(message)
  end
end

local function lose(job)
  cancel(job) -- it may live yet
  job.is_over = true
  local what = "Redrum stopped without an answer: nothing was written."
  if not job.beat then
    remove_files(job)
    what = "The redrum command does not start."
  end
  show(what .. "\n\nIn a terminal, `redrum reaper doctor` says what is wrong. The command is\n" .. job.command)
end

local function draw(job)
  gfx.set(0.16, 0.16, 0.17)
  gfx.rect(0, 0, gfx.w, gfx.h, 1)
  gfx.set(0.9, 0.9, 0.9)
  gfx.x, gfx.y = MARGIN, MARGIN
  gfx.drawstr(job.text)
  gfx.set(0.32, 0.32, 0.34)
  gfx.rect(MARGIN, 38, WIDTH - 2 * MARGIN, 10, 1)
  gfx.rect(WIDTH - MARGIN - BUTTON, 60, BUTTON, 24, 1)
  gfx.set(0.93, 0.55, 0.2)
  gfx.rect(MARGIN, 38, math.floor((WIDTH - 2 * MARGIN) * job.share), 10, 1)
  gfx.set(0.9, 0.9, 0.9)
  gfx.x, gfx.y = WIDTH - MARGIN - BUTTON + 20, 66
  gfx.drawstr("Cancel")
  gfx.update()
end

-- Returns whether the user closed the window, pressed Escape, or clicked the button.
local function wants_to_cancel()
  local key = gfx.getchar()
  local is_down = gfx.mouse_cap % 2 == 1
  local is_on_button = gfx.mouse_x >= WIDTH - MARGIN - BUTTON and gfx.mouse_y >= 60
  return key == -1 or key == 27 or (is_down and is_on_button)
end

local function look(job)
  local result = json.read(job.files.result)
  if result then
    finish(job, result)
    return
  end
  local take = job.edits and json.read(job.files.take)
  if take then
    take_in(job, take)
  end
  local progress = json.read(job.files.progress)
  if progress and progress.beat ~= job.beat then
    job.beat, job.text, job.share = progress.beat, progress.text, progress.share
    job.silent_s, job.patience_s = 0, LOST_S
  end
end

-- Looks after a job, again and again, while REAPER goes on.
local function tend(job)
  local now_s = reaper.time_precise()
  local passed_s = math.min(now_s - job.now_s, 0.5) -- no more: REAPER may have stood still, and the job with it
  job.now_s, job.silent_s, job.unseen_s = now_s, job.silent_s + passed_s, job.unseen_s + passed_s
  if job.unseen_s >= LOOK_S then
    job.unseen_s = 0
    look(job)
  end
  if not job.is_over and job.silent_s > job.patience_s then
    lose(job)
  end
  if job.is_over then
    return
  end
  if not job.is_cancelled then
    if wants_to_cancel() then
      cancel(job)
    else
      draw(job)
    end
  end
  reaper.defer(function()
    tend(job)
  end)
end

-- Starting

-- Returns the folder of jobs, after removing what was left behind there.
local function job_folder()
  local folder = reaper.GetResourcePath() .. "/Redrum/jobs"
  reaper.RecursiveCreateDirectory(folder, 0)
  local names, number = {}, 0
  while true do
    local name = reaper.EnumerateFiles(folder, number)
    if not name then
      break
    end
    names[#names + 1], number = name, number + 1
  end
  for _, name in ipairs(names) do
    local began_s = tonumber(name:match("^(%d+)-%d+%."))
    if began_s and os.time() - began_s > OLD_S then
      os.remove(folder .. "/" .. name)
    end
  end
  return folder
end

local function new_job(project, path)
  local id = string.format("%d-%06d", os.time(), math.floor(reaper.time_precise() * 1e6) % 1000000)
  local base = job_folder() .. "/" .. id
  return {
    project = project,
    path = path,
    files = {
      job = base .. ".json",
      progress = base .. ".progress.json",
      result = base .. ".result.json",
      cancel = base .. ".cancel",
      take = base .. ".take.json",
      taken = base .. ".taken.json",
    },
    now_s = reaper.time_precise(),
    silent_s = 0,
    patience_s = LOST_S,
    unseen_s = 0,
    share = 0,
    text = "Redrum is starting...",
  }
end

-- Returns a command line of words.
local function line_of(words)
  local quoted_words = {}
  for place, word in ipairs(words) do
    quoted_words[place] = '"' .. word .. '"'
  end
  return table.concat(quoted_words, " ")
end

local function start(job, words, order, facts)
  local text = json.encode({ schema = SCHEMA, order = order, facts = facts })
  local why = json.write(job.files.job, text)
  if why then
    return "Redrum cannot write into REAPER's resource folder: " .. why
  end
  job.command = line_of(words) .. ' reaper run-job "' .. job.files.job .. '"'
  if not reaper.ExecProcess(job.command, NO_WAIT_MINIMISED) then
    job.patience_s = DOUBT_S
  end
  gfx.init(TITLE, WIDTH, HEIGHT)
  reaper.atexit(function()
    if not job.is_over then -- REAPER quits, or its user ends the script
      json.write(job.files.cancel, "")
    end
  end)
  tend(job)
end

-- Returns what `redrum reaper install` noted, or nil and what is missing.
local function installed()
  local noted = json.read(reaper.GetResourcePath() .. "/Redrum/command.json")
  if not noted or not noted.command then
    return nil, "REAPER does not know yet where the redrum command is.\n\nIn a terminal, run `redrum reaper install`."
  elseif noted.schema ~= SCHEMA then
    return nil, "This action is of another version than the redrum command.\n\nRun `redrum reaper install` again."
  elseif not reaper.file_exists(noted.command[1]) then
    local missing = "The redrum command is no longer at\n" .. noted.command[1]
    return nil, missing .. "\n\nRun `redrum reaper install` again."
  end
  return noted
end

-- Runs an action; "scope" as in `session.gather`, whether the last answers are used without a question, and
-- whether the item is edited instead: then there is none.
function redrum.run(scope, is_repeated, edits)
  reaper.defer(function() end) -- else REAPER makes an undo step of a script that did nothing
  local noted, missing = installed()
  if not noted then
    show(missing)
    return
  end
  local project, path = session.project(-1)
  local facts, n_chosen = session.gather(project, path, scope, noted.rhythm_tracks)
  if n_chosen == 0 then
    show(scope == "tracks" and "Select tracks with drum items first." or "Select a drum item first.")
    return
  end
  if path == "" then
    local folder = ask(
      TITLE .. ": this project has never been saved",
      { "Folder for the takes" },
      { facts.media_folder }
    )
    if not folder or folder[1] == "" then
      return
    end
    facts.media_folder = folder[1]
  end
  local order = edits and { edits = true } or new_order(scope, is_repeated)
  if not order then
    return
  end
  local job = new_job(project, path)
  job.edits = edits
  local problem = start(job, noted.command, order, facts)
  if problem then
    show(problem)
  end
end

return redrum
