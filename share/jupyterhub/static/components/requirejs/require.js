/* Templates of deployments may name this address. What they need of an AMD loader is in js/amd.js. */
if (!window.require && document.currentScript) {
  document.write('<script src="' + document.currentScript.src.replace(/components\/requirejs\/require\.js.*$/, "js/amd.js") + '"><\/script>');
}
