-- What Redrum does inside Ardour, for all of its actions.
--
-- It gathers facts about the session, asks for settings, and has the `redrum` command do the work in a process
-- of its own, which answers in files; then it puts the takes into the session. What the facts mean, which region
-- is whose rhythm, and every sentence about them is decided in that process.

local redrum = {}

local FOLDER = ... -- Ardour's scripts cannot find out where they lie
local json = assert(loadfile(FOLDER .. "redrum_json.lua"))()
local session = assert(loadfile(FOLDER .. "redrum_session.lua"))(FOLDER)

local SCHEMA = 1 -- of the files that both sides write
local TITLE = "Redrum"
local LOOK_US = 50000 -- between two looks at the files
local LOST_S = 60 -- a job that is silent as long as this is lost; it writes twice a second
local CANCEL_S = 10 -- that a cancelled job may take to end
local US = 1e6
-- The shell's words: run "$@" in a session of its own, and remove the file $0 afterwards.
local RUN = '"$@"; rm -f -- "$0"'
local START = '(if command -v setsid >/dev/null; then exec setsid sh -c "$0" "$@"; else exec sh -c "$0" "$@"; fi)'

local CLOSED = "The session was closed in the meantime: nothing was written."

local ENGINES = { resequence = "resequence", latent = "latent" }
local KITS = { auto = "auto", together = "together", apart = "apart" }
local DEFAULTS = { rhythm = "", engine = "resequence", length = "source", seed = "0", kit = "auto" }

local function now_s()
  return ARDOUR.LuaAPI.monotonic_time() / US
end

local function show(text)
  LuaDialog.Message(TITLE, text, LuaDialog.MessageType.Info, LuaDialog.ButtonType.Close):run()
end

-- Questions

-- Returns the name that a list shows for a value.
local function label_of(values, value)
  for label, found in pairs(values) do
    if found == value then
      return label
    end
  end
end

-- Returns what is asked, with the last answers.
local function questions(answers)
  return {
    { type = "entry", key = "rhythm", title = "Rhythm (name or file; empty: in session)", default = answers.rhythm },
    { type = "dropdown", key = "engine", title = "Engine", values = ENGINES, default = label_of(ENGINES, answers.engine) },
    { type = "entry", key = "length", title = "Length (source, rhythm, or seconds)", default = answers.length },
    { type = "entry", key = "seed", title = "Seed", default = answers.seed },
    { type = "dropdown", key = "kit", title = "Microphones", values = KITS, default = label_of(KITS, answers.kit) },
  }
end

-- Returns the order, answered now or the last time; nil where the user cancels.
local function new_order(is_repeated)
  local file = FOLDER .. "answers.json"
  local answers = json.read(file)
  local is_first = type(answers) ~= "table"
  local order = {}
  for name, default in pairs(DEFAULTS) do
    order[name] = not is_first and type(answers[name]) == "string" and answers[name] or default
  end
  if is_first or not is_repeated then
    local found = LuaDialog.Dialog(TITLE, questions(order)):run()
    if not found then
      return nil
    end
    for name in pairs(DEFAULTS) do
      order[name] = tostring(found[name]):match("^%s*(.-)%s*$")
    end
    json.write(file, json.encode(order)) -- where that fails, they are asked for again
  end
  return order
end

-- Jobs: a table with the files of a job, the session that it is from, and how far it is

local function remove_media(answer)
  for _, file in ipairs(answer.media or {}) do
    os.remove(file) -- Ardour has copied it
  end
end

local function remove_files(job, result)
  for _, file in pairs(job.files) do
    os.remove(file)
  end
  remove_media(result)
end

local function cancel(job)
  job.is_cancelled = true
  json.write(job.files.cancel, "")
end

-- Puts tracks into the session of a job; returns what is wrong, "" where nothing is.
local function put_in(job, tracks)
  if not session.is_open(job.path) then
    return CLOSED
  end
  local is_called, problem = pcall(session.write_back, tracks)
  if not problem then
    return ""
  end
  return is_called and problem or ("Ardour did not take the takes: " .. tostring(problem))
end

-- Puts the take into the session that an editor sends, and answers.
local function take_in(job, take)
  if take.number == job.taken then
    return
  end
  job.taken = take.number
  local problem = put_in(job, take.tracks)
  remove_media(take)
  json.write(job.files.taken, json.encode({ schema = SCHEMA, number = take.number, problem = problem }))
end

local function exists(path)
  return ARDOUR.LuaAPI.file_test(path, ARDOUR.LuaAPI.FileTest.Exists)
end

-- Notes how far a job is; returns whether it is alive.
local function is_alive(job)
  if job.is_watched and not exists(job.files.running) then
    return false
  end
  local progress = json.read(job.files.progress)
  if progress and progress.beat ~= job.beat then
    job.beat, job.text, job.share = progress.beat, progress.text, progress.share
    job.last_s = now_s()
  end
  return now_s() - job.last_s < (job.is_cancelled and CANCEL_S or LOST_S)
end

-- Returns whether a user who pressed Cancel means it: so does the space bar, by which Ardour starts and stops.
local function is_confirmed(job)
  local text = job.edits and "End the editing? The page can send no more takes then." or "Cancel this job?"
  local question, buttons = LuaDialog.MessageType.Question, LuaDialog.ButtonType.Yes_No
  return LuaDialog.Message(TITLE, text, question, buttons):run() == LuaDialog.Response.Yes
end

-- Waits for a job while a window says how far it is, and Ardour goes on; returns its result, nil where it is lost.
--
-- The window lets Ardour do whatever it has to do: afterwards the session may be another one, or gone.
local function wait(job)
  local window = LuaDialog.ProgressWindow(TITLE, true)
  local result
  while true do
    local goes_on = is_alive(job)
    result = json.read(job.files.result) -- after that look: a job writes it, then ends
    if result or not goes_on then
      break
    end
    local take = job.edits and json.read(job.files.take)
    if take then
      take_in(job, take)
    end
    local is_cancelled = window:progress(job.share, job.is_cancelled and "Cancelling..." or job.text)
    if not job.is_cancelled then
      local is_over = not session.is_open(job.path)
      if is_cancelled and not is_over then
        window:done() -- which would say for ever that it was cancelled
        is_over = is_confirmed(job)
        window = LuaDialog.ProgressWindow(TITLE, true)
        job.last_s = now_s() -- the question took its time
      end
      if is_over then
        cancel(job)
        job.last_s = now_s()
      end
    end
    ARDOUR.LuaAPI.usleep(LOOK_US)
  end
  window:done()
  return result
end

-- Puts the takes of a job into its session; returns what is to be said, "" where all is well.
local function finish(job, result)
  if not session.is_open(job.path) then
    return CLOSED
  elseif job.is_cancelled then
    return ""
  end
  local problem = #(result.tracks or {}) > 0 and put_in(job, result.tracks) or ""
  if problem == "" then
    return result.message or ""
  end
  local files = table.concat(result.media, "\n")
  result.media = nil -- they stay
  return problem .. "\n\nWhat Redrum made stays for a day, whole:\n" .. files
end

local function lost(job)
  local what = "Redrum stopped without an answer: nothing was written."
  if not job.beat then
    what = "The redrum command does not start."
  end
  return what .. "\n\nIn a terminal, `redrum ardour doctor` says what is wrong. The command is\n" .. job.command
end

-- Starting

local function new_job(path)
  local id = string.format("%d-%06d", os.time(), math.floor(ARDOUR.LuaAPI.monotonic_time()) % 1000000)
  local base = FOLDER .. "jobs/" .. id
  return {
    path = path,
    files = {
      job = base .. ".json",
      progress = base .. ".progress.json",
      result = base .. ".result.json",
      cancel = base .. ".cancel",
      take = base .. ".take.json",
      taken = base .. ".taken.json",
      running = base .. ".running",
    },
    share = 0,
    text = "Redrum is starting...",
    last_s = now_s(),
  }
end

-- Starts a command that Ardour does not wait for, and that has nothing of Ardour's but its rights. Ardour does not say
-- whether it runs: where there is a shell, a file does.
local function start(job, words)
  job.is_watched = exists("/bin/sh") and not json.write(job.files.running, "")
  if job.is_watched then
    local line = START .. " </dev/null >/dev/null 2>&1 &"
    os.forkexec("/bin/sh", "-c", line, RUN, job.files.running, table.unpack(words))
  else
    os.forkexec(table.unpack(words))
  end
end

-- Returns what `redrum ardour install` noted, or nil and what is missing.
local function installed()
  local noted = json.read(FOLDER .. "command.json")
  if not noted or not noted.command then
    return nil, "Ardour does not know yet where the redrum command is.\n\nIn a terminal, run `redrum ardour install`."
  elseif noted.schema ~= SCHEMA then
    return nil, "This action is of another version than the redrum command.\n\nRun `redrum ardour install` again."
  elseif not exists(noted.command[1]) then
    local missing = "The redrum command is no longer at\n" .. noted.command[1]
    return nil, missing .. "\n\nRun `redrum ardour install` again."
  end
  return noted
end

-- Does what an action does; returns what is to be said, "" where all is well, and a job that is lost.
local function act(scope, is_repeated, edits)
  local noted, missing = installed()
  if not noted then
    return missing
  end
  local facts, n_chosen = session.gather(scope, noted.rhythm_tracks)
  if n_chosen == 0 then
    return scope == "tracks" and "Select tracks with drum regions first." or "Select a drum region first."
  end
  facts.media_folder = FOLDER .. "jobs"
  local order = edits and { edits = true } or new_order(is_repeated)
  if not order then
    return ""
  end
  local job = new_job(facts.path)
  job.edits = edits
  local why = json.write(job.files.job, json.encode({ schema = SCHEMA, order = order, facts = facts }))
  if why then
    return "Redrum cannot write into Ardour's folder: " .. why .. "\n\nRun `redrum ardour install` again."
  end
  local words = { table.unpack(noted.command) }
  for _, word in ipairs({ "ardour", "run-job", job.files.job }) do
    words[#words + 1] = word
  end
  job.command = '"' .. table.concat(words, '" "') .. '"'
  start(job, words)
  facts = nil
  collectgarbage() -- nothing of the session is held while others may close it
  local result = wait(job)
  if not result then
    cancel(job) -- it may live yet
    return lost(job), job
  end
  local is_done, message = pcall(finish, job, result)
  remove_files(job, result)
  return is_done and message or ("Redrum failed: " .. tostring(message))
end

-- Runs an action; "scope" as in `session.gather`, whether the last answers are used without a question, and whether
-- the region is edited instead: then there is none.
function redrum.run(scope, is_repeated, edits)
  local is_done, message, lost_job = pcall(act, scope, is_repeated, edits) -- Ardour forgets an action that fails
  if not is_done then
    message = "Redrum failed: " .. tostring(message)
  end
  if message ~= "" then
    show(message)
  end
  if lost_job then
    remove_files(lost_job, {}) -- only now: it has had time to end
  end
end

return redrum
