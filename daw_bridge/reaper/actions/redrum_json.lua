-- JSON and files for Redrum's scripts in all hosts. Text passes as bytes, whatever its encoding; null and missing
-- are the same.

local json = {}

local LIST = { is_list = true } -- the metatable of tables that become arrays, even where they are empty

-- Returns a table marked as an array.
function json.list(items)
  return setmetatable(items or {}, LIST)
end

local NAMED = { ['"'] = '\\"', ["\\"] = "\\\\", ["\n"] = "\\n", ["\r"] = "\\r", ["\t"] = "\\t" }

local function quoted(text)
  local escaped = text:gsub('[%c"\\]', function(char)
    return NAMED[char] or string.format("\\u%04x", char:byte())
  end)
  return '"' .. escaped .. '"'
end

local function number(value)
  if value ~= value then
    return "NaN"
  elseif value == math.huge or value == -math.huge then
    return value > 0 and "Infinity" or "-Infinity" -- as Python reads them
  elseif math.type(value) == "integer" then
    return string.format("%d", value)
  end
  -- Where the system's language writes a comma, so does Lua.
  return (string.format("%.17g", value):gsub(",", "."))
end

-- Returns a value as text. Keys of objects must be strings.
function json.encode(value)
  local kind = type(value)
  if kind == "string" then
    return quoted(value)
  elseif kind == "number" then
    return number(value)
  elseif kind == "boolean" then
    return tostring(value)
  elseif kind ~= "table" then
    error("a " .. kind .. " cannot be written as JSON")
  end
  local parts = {}
  local meta = getmetatable(value)
  if meta and meta.is_list then
    for place, item in ipairs(value) do
      parts[place] = json.encode(item)
    end
    return "[" .. table.concat(parts, ",") .. "]"
  end
  for key, item in pairs(value) do
    parts[#parts + 1] = quoted(key) .. ":" .. json.encode(item)
  end
  table.sort(parts)
  return "{" .. table.concat(parts, ",") .. "}"
end

local CHARS = { b = "\b", f = "\f", n = "\n", r = "\r", t = "\t" }
local decode_value

local function skip(text, at)
  return text:find("[^ \t\r\n]", at) or #text + 1
end

local function fail(at)
  error("no JSON at byte " .. at, 0)
end

-- Returns the text that begins after the quote at `at`, and where it ends.
local function decode_text(text, at)
  local parts = {}
  local from = at + 1
  while true do
    local stop = text:find('["\\]', from) or fail(from)
    parts[#parts + 1] = text:sub(from, stop - 1)
    if text:sub(stop, stop) == '"' then
      return table.concat(parts), stop + 1
    end
    local char = text:sub(stop + 1, stop + 1)
    from = stop + 2
    if char == "u" then
      local code = tonumber(text:match("^%x%x%x%x", from) or fail(from), 16)
      from = from + 4
      local low = code >= 0xD800 and code < 0xDC00 and text:match("^\\u([dD][c-fC-F]%x%x)", from)
      if low then
        code = 0x10000 + (code - 0xD800) * 0x400 + tonumber(low, 16) - 0xDC00
        from = from + 6
      end
      parts[#parts + 1] = utf8.char(code)
    else
      parts[#parts + 1] = CHARS[char] or char
    end
  end
end

local function decode_list(text, at)
  local found = json.list()
  at = skip(text, at + 1)
  while text:sub(at, at) ~= "]" do
    found[#found + 1], at = decode_value(text, at)
    at = skip(text, at)
    if text:sub(at, at) == "," then
      at = skip(text, at + 1)
    elseif text:sub(at, at) ~= "]" then
      fail(at)
    end
  end
  return found, at + 1
end

local function decode_object(text, at)
  local found = {}
  at = skip(text, at + 1)
  while text:sub(at, at) ~= "}" do
    if text:sub(at, at) ~= '"' then
      fail(at)
    end
    local key
    key, at = decode_text(text, at)
    at = skip(text, at)
    if text:sub(at, at) ~= ":" then
      fail(at)
    end
    found[key], at = decode_value(text, at + 1)
    at = skip(text, at)
    if text:sub(at, at) == "," then
      at = skip(text, at + 1)
    elseif text:sub(at, at) ~= "}" then
      fail(at)
    end
  end
  return found, at + 1
end

local WORDS = { ["true"] = true, ["false"] = false }

function decode_value(text, at)
  at = skip(text, at)
  local char = text:sub(at, at)
  if char == '"' then
    return decode_text(text, at)
  elseif char == "[" then
    return decode_list(text, at)
  elseif char == "{" then
    return decode_object(text, at)
  end
  local word = text:match("^%a+", at)
  if word == "null" or WORDS[word] ~= nil then
    return WORDS[word], at + #word
  end
  local digits = text:match("^-?%d+%.?%d*[eE]?[+-]?%d*", at) or fail(at)
  return tonumber(digits) or fail(at), at + #digits
end

-- Returns the value that a text describes; raises an error where it describes none.
function json.decode(text)
  local value, at = decode_value(text, 1)
  if skip(text, at) <= #text then
    fail(at)
  end
  return value
end

-- Returns the contents of a JSON file, nil where there is none.
function json.read(path)
  local file = io.open(path, "rb")
  if not file then
    return nil
  end
  local text = file:read("a")
  file:close()
  local is_json, value = pcall(json.decode, text or "")
  return is_json and value or nil
end

-- Writes a file; returns why it cannot be written, nil where it can.
function json.write(path, text)
  local file, why = io.open(path, "wb")
  if not file then
    return why
  end
  local is_written
  is_written, why = file:write(text)
  file:close()
  return not is_written and why or nil
end

return json
