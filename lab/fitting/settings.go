package fitting

import (
	"fmt"
	"reflect"
	"strings"

	"tare/method/bayes"
	"tare/method/optimize"
	"tare/method/stats"
)

// Setting is an option of a method: its name in -o and recipes, its default and what it
// is.
type Setting struct {
	Name  string `json:"name"`
	Value string `json:"default"`
	Help  string `json:"help"`
}

// Settings lists the options by their tags.
func Settings(o Options) []Setting { return settingsOf(reflect.ValueOf(o)) }

func settingsOf(v reflect.Value) []Setting {
	for v.Kind() == reflect.Pointer {
		v = v.Elem()
	}
	var out []Setting
	for i := range v.NumField() {
		field := v.Type().Field(i)
		name, rest, _ := strings.Cut(field.Tag.Get("yaml"), ",")
		switch {
		case strings.Contains(rest, "inline"):
			out = append(out, settingsOf(v.Field(i))...)
		case name != "" && name != "-":
			out = append(out, Setting{name, fmt.Sprint(v.Field(i).Interface()), field.Tag.Get("help")})
		}
	}
	return out
}

// UsageErrors are mistakes in what was asked for.
func UsageErrors() []error {
	return []error{ErrMethod, ErrFormula, stats.ErrOptions, optimize.ErrOptions, bayes.ErrOptions}
}

// InputErrors are faults of files.
func InputErrors() []error {
	return []error{ErrTable, ErrData, ErrModel, stats.ErrData, optimize.ErrData, bayes.ErrData}
}

// Likeliest names the class of a row that has the largest probability.
func (p *Prediction) Likeliest(row int) string { return p.Classes[likeliest(p.Probabilities[row])] }
