// Another method between the original and retraining.
for (const choice of document.querySelectorAll("select[data-choose]")) {
  const table = document.getElementById(choice.dataset.choose);
  const choose = () => {
    [...table.tBodies].forEach((body, i) => { body.hidden = i !== choice.selectedIndex; });
    table.querySelector(".chosen").textContent = choice.selectedOptions[0].textContent;
  };
  choice.addEventListener("change", choose);
  choose();  // a reload may have kept the choice
}

// Paper has no buttons: print what is folded away, but for the table that no paper is wide enough for.
addEventListener("beforeprint", () => {
  for (const part of document.querySelectorAll("details:not(.everything)")) part.open = true;
});
