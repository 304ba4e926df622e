@echo off
rem Makes the environment where it is missing, and opens the page. Arguments go to "python run.py ui".
cd /d "%~dp0"
if exist .venv\Scripts\python.exe goto packages
py -3 -m venv .venv
if errorlevel 1 (
  echo Python 3.11, 3.12 or 3.13 is needed: install it from https://www.python.org/downloads/
  pause
  exit /b 1
)
:packages
fc .venv\installed.txt requirements.txt >nul 2>&1 && goto open
echo Installing the packages: a few minutes
rem PyPI has only the CPU build of torch for Windows: this index has the CUDA one.
.venv\Scripts\python -m pip install --disable-pip-version-check --extra-index-url https://download.pytorch.org/whl/cu130 -r requirements.txt
if errorlevel 1 (
  pause
  exit /b 1
)
copy /y requirements.txt .venv\installed.txt >nul
:open
.venv\Scripts\python run.py ui %*
pause
