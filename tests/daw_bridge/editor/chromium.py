"""Debian's Chromium without a window, driven by selenium: the editor's page in tests and benches."""

import shutil

from selenium import webdriver

_OPTIONS = ("headless=new", "no-sandbox", "disable-dev-shm-usage", "disable-gpu", "window-size=1280,900")


def is_installed():
    return bool(shutil.which("chromium") and shutil.which("chromedriver"))


def start_chromium():
    """Return a browser, whose log has all levels; end it by quit()."""
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for option in _OPTIONS:
        options.add_argument(f"--{option}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    return webdriver.Chrome(options, webdriver.ChromeService(shutil.which("chromedriver")))
