package adapt

import (
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// Settings that differ from layer to layer, as PEFT's rank_pattern and alpha_pattern
// say them: a key is a layer's whole name, its end after a dot, or a regular expression
// for one of these.

// patternFor returns what the pattern says of a layer, standard where it says nothing.
// Of several keys that fit PEFT takes the first as the file has them; that order is not
// ours to rely on, so they must agree.
func patternFor[V comparable](pattern map[string]V, layer string, standard V) (V, error) {
	found, by := standard, ""
	for _, key := range slices.Sorted(maps.Keys(pattern)) {
		fits := key == layer || strings.HasSuffix(layer, "."+key)
		if !fits && isPattern(key) {
			re, err := regexp.Compile(`^(?:.*\.)?(?:` + key + `)$`)
			if err != nil {
				return standard, fmt.Errorf("key %q: %w", key, err)
			}
			fits = re.MatchString(layer)
		}
		switch {
		case !fits:
		case by == "":
			found, by = pattern[key], key
		case pattern[key] != found:
			return standard, fmt.Errorf("%q says %v of layer %s, %q says %v; leave one of them out", by, found, layer, key, pattern[key])
		}
	}
	return found, nil
}

// patternOf reads a pattern of an adapter_config.json; nil where there is none.
func patternOf[V any](c map[string]any, key string, convert func(float64) V) (map[string]V, error) {
	if !isSet(c[key]) {
		return nil, nil
	}
	m, ok := c[key].(map[string]any)
	if !ok {
		return nil, fmt.Errorf("%s is %v, want names of layers with a number each", key, c[key])
	}
	pattern := make(map[string]V, len(m))
	for name := range m {
		v := number(m, name, -1)
		if v < 0 {
			return nil, fmt.Errorf("%s says %v of %q, want a number", key, m[name], name)
		}
		pattern[name] = convert(v)
	}
	return pattern, nil
}
