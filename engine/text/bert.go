package text

import (
	"encoding/json"
	"strings"
	"unicode"

	"golang.org/x/text/unicode/norm"
)

// parseBertNormalizer returns the stages of BERT's normaliser: control characters
// go and white space becomes a space, a space stands on both sides of a Chinese
// character, accents go, capitals become small. (BasicTokenizer of Devlin et al.)
func parseBertNormalizer(raw json.RawMessage) ([]normalizer, error) {
	c := struct {
		Clean   bool  `json:"clean_text"`
		Chinese bool  `json:"handle_chinese_chars"`
		Accents *bool `json:"strip_accents"` // null: as lowercase
		Lower   bool  `json:"lowercase"`
	}{Clean: true, Chinese: true, Lower: true}
	if err := unmarshal("normalizer: BertNormalizer", raw, &c, 0); err != nil {
		return nil, err
	}
	var stages []normalizer
	if c.Clean {
		stages = append(stages, cleanText)
	}
	if c.Chinese {
		stages = append(stages, spaceChinese)
	}
	if c.Accents != nil && *c.Accents || c.Accents == nil && c.Lower {
		stages = append(stages, func(s string) string { return without(unicode.Mn, norm.NFD.String(s)) })
	}
	if c.Lower {
		stages = append(stages, lower)
	}
	return stages, nil
}

func cleanText(s string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r == '\t' || r == '\n' || r == '\r':
			return ' '
		case r == 0 || r == '\uFFFD' || unicode.In(r, unicode.Cc, unicode.Cf, unicode.Co):
			return -1
		case unicode.IsSpace(r):
			return ' '
		}
		return r
	}, s)
}

// chinese is the blocks of ideographs that BERT tells from other letters.
var chinese = &unicode.RangeTable{
	R16: []unicode.Range16{{Lo: 0x3400, Hi: 0x4dbf, Stride: 1}, {Lo: 0x4e00, Hi: 0x9fff, Stride: 1}, {Lo: 0xf900, Hi: 0xfaff, Stride: 1}},
	R32: []unicode.Range32{{Lo: 0x20000, Hi: 0x2a6df, Stride: 1}, {Lo: 0x2a700, Hi: 0x2b73f, Stride: 1}, {Lo: 0x2b740, Hi: 0x2b81f, Stride: 1}, {Lo: 0x2b920, Hi: 0x2ceaf, Stride: 1}, {Lo: 0x2f800, Hi: 0x2fa1f, Stride: 1}},
}

func spaceChinese(s string) string {
	if strings.IndexFunc(s, isChinese) < 0 {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		if isChinese(r) {
			b.WriteByte(' ')
			b.WriteRune(r)
			b.WriteByte(' ')
		} else {
			b.WriteRune(r)
		}
	}
	return b.String()
}

func isChinese(r rune) bool { return r >= 0x3400 && unicode.Is(chinese, r) }

// without returns s without the characters of a table.
func without(table *unicode.RangeTable, s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 0x300 && unicode.Is(table, r) {
			return -1
		}
		return r
	}, s)
}
