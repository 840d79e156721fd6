const find = document.getElementById('find'), state = document.getElementById('state'), shown = document.getElementById('shown');
const rows = [...document.querySelectorAll('.cases tbody tr')].map(row => [row, row.textContent.toLowerCase()]);
function filter() {
  const words = find.value.toLowerCase();
  let count = 0;
  for (const [row, text] of rows) {
    const hit = text.includes(words) && (!state.value || row.dataset.s === state.value);
    row.hidden = !hit;
    count += hit;
  }
  shown.textContent = count + ' of ' + rows.length;
}
find.addEventListener('input', filter);
state.addEventListener('change', filter);
for (const link of document.querySelectorAll('[data-find]')) {
  link.addEventListener('click', () => { find.value = link.dataset.find; state.value = ''; filter(); });
}
filter();
