/* For scripts in templates and option forms of deployments that were written for an AMD loader.
   Defines `require` and `define`; a library is fetched only when somebody asks for it by name. */
(function () {
  "use strict";
  if (window.require && window.define) {
    return;
  }
  var root = window.jhdata.static_url;
  var scripts = {
    jquery: { path: "components/jquery/dist/jquery.min.js", value: function () { return window.jQuery; } },
    moment: { path: "components/moment/moment.js", value: function () { return window.moment; } },
    bootstrap: {
      path: "components/bootstrap/dist/js/bootstrap.bundle.min.js",
      value: function () { return window.bootstrap; }
    }
  };
  var modules = { jhapi: "js/jhapi.js", utils: "js/utils.js" };
  var loaded = {};
  var defined = [];
  var aliases = {};
  var queue = Promise.resolve();

  // One script at a time: only so can an anonymous `define` be told from another's.
  function inTurn(work) {
    var result = queue.then(work);
    queue = result.catch(function () {});
    return result;
  }

  function loadScript(url) {
    return new Promise(function (resolve, reject) {
      var element = document.createElement("script");
      element.src = url;
      element.onload = function () { resolve(defined.shift()); };
      element.onerror = function () { reject(new Error("Cannot load " + url)); };
      document.head.appendChild(element);
    });
  }

  function load(name) {
    if (!loaded[name]) {
      if (name === "jquery" && window.jQuery) {
        loaded[name] = Promise.resolve(window.jQuery);
      } else if (scripts[name]) {
        loaded[name] = inTurn(function () {
          // These libraries would register with an AMD loader; as plain scripts they set a global.
          window.define = undefined;
          return loadScript(root + scripts[name].path).finally(function () { window.define = define; });
        }).then(scripts[name].value);
      } else if (modules[name]) {
        loaded[name] = import(root + modules[name]).then(function (module) { return module.default; });
      } else {
        var path = aliases[name] || name;
        var url = /^(https?:)?\//.test(path) ? path : root + (aliases[name] ? path : "js/" + path);
        var full = url.replace(/(\.js)?(\?.*)?$/, function (all, js, query) { return ".js" + (query || ""); });
        loaded[name] = inTurn(function () { return loadScript(full); }).then(function (module) { return module ? run(module.needs, module.make) : undefined; });
      }
    }
    return loaded[name];
  }

  function run(names, make) {
    return Promise.all(names.map(load)).then(function (values) {
      return typeof make === "function" ? make.apply(window, values) : make;
    });
  }

  window.require = function (names, callback, failed) {
    if (typeof names === "string") {
      throw new Error("require('" + names + "') has to be written require(['" + names + "'], function (it) { … })");
    }
    run(names, callback).catch(failed || function (problem) { console.error(problem); });
  };
  window.require.config = function (options) {
    Object.keys((options && options.paths) || {}).forEach(function (name) { aliases[name] = options.paths[name]; });
  };
  window.requirejs = window.require;
  function define(name, needs, make) {
    if (typeof name !== "string") {
      make = needs;
      needs = name;
      name = "";
    }
    if (!Array.isArray(needs)) {
      make = needs;
      needs = [];
    }
    if (name) {
      loaded[name] = run(needs, make);
    } else {
      defined.push({ needs: needs, make: make });
    }
  }
  define.amd = {};
  window.define = define;
})();
