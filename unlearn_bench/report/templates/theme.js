// Everything is on the page without this script; it sorts, filters, chooses and switches.

for (const part of document.querySelectorAll(".scripted")) part.hidden = false;

// Theme: what the system says, until the reader says otherwise.
const theme = document.getElementById("theme");
const root = document.documentElement;
const systemDark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => (root.dataset.theme || (systemDark.matches ? "dark" : "light")) === "dark";
const nameTheme = () => { theme.textContent = isDark() ? "Light theme" : "Dark theme"; };
theme.hidden = false;
theme.addEventListener("click", () => { root.dataset.theme = isDark() ? "light" : "dark"; nameTheme(); });
systemDark.addEventListener("change", nameTheme);
nameTheme();
