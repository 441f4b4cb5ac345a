package text

import (
	"encoding/json"
	"strconv"
	"strings"
	"unicode/utf8"
)

// decoder rewrites the tokens on their way to text.
type decoder func(tokens []string) []string

// runDecode passes tokens through all stages and joins them; without a decoder,
// tokens are words.
func runDecode(stages []decoder, tokens []string) string {
	if len(stages) == 0 {
		return strings.Join(tokens, " ")
	}
	for _, d := range stages {
		tokens = d(tokens)
	}
	return strings.Join(tokens, "")
}

var decoderNames = []string{"ByteFallback", "ByteLevel", "Fuse", "Replace", "Sequence", "Strip"}

// parseDecoder returns the stages of a decoder in order.
func parseDecoder(raw json.RawMessage, depth int) ([]decoder, error) {
	var c struct {
		Type     string            `json:"type"`
		Decoders []json.RawMessage `json:"decoders"`
		Pattern  json.RawMessage   `json:"pattern"`
		Content  string            `json:"content"`
		Start    int               `json:"start"`
		Stop     int               `json:"stop"`
	}
	if isNull(raw) {
		return nil, nil
	}
	if err := unmarshal("decoder", raw, &c, depth); err != nil {
		return nil, err
	}
	one := func(d decoder) ([]decoder, error) { return []decoder{d}, nil }
	switch c.Type {
	case "Sequence":
		return parseAll(c.Decoders, depth, parseDecoder)
	case "ByteLevel":
		return one(decodeByteLevel)
	case "ByteFallback":
		return one(decodeByteFallback)
	case "Fuse":
		return one(func(tokens []string) []string { return []string{strings.Join(tokens, "")} })
	case "Replace":
		replace, err := parseReplace("decoder", c.Pattern, c.Content)
		return []decoder{each(replace)}, err
	case "Strip":
		if utf8.RuneCountInString(c.Content) != 1 {
			return nil, malformed("decoder: Strip: content is %q, want one character", c.Content)
		}
		return one(each(func(token string) string {
			for range c.Start {
				rest, ok := strings.CutPrefix(token, c.Content)
				if !ok {
					break
				}
				token = rest
			}
			for range c.Stop {
				rest, ok := strings.CutSuffix(token, c.Content)
				if !ok {
					break
				}
				token = rest
			}
			return token
		}))
	}
	return nil, unknown("decoder", c.Type, decoderNames)
}

func each(f func(string) string) decoder {
	return func(tokens []string) []string {
		out := make([]string, len(tokens))
		for i, token := range tokens {
			out[i] = f(token)
		}
		return out
	}
}

func decodeByteLevel(tokens []string) []string {
	var buf []byte
	for _, token := range tokens {
		buf = appendUnmapped(buf, token)
	}
	return []string{validUTF8(string(buf))}
}

// decodeByteFallback turns runs of <0x..> tokens into text, a U+FFFD for each byte
// of a run that is not UTF-8.
func decodeByteFallback(tokens []string) []string {
	var out []string
	var run []byte
	flush := func() {
		if utf8.Valid(run) {
			out = append(out, string(run))
		} else {
			out = append(out, strings.Repeat("\uFFFD", len(run)))
		}
		run = run[:0]
	}
	for _, token := range tokens {
		if len(token) == 6 && strings.HasPrefix(token, "<0x") && token[5] == '>' {
			if b, err := strconv.ParseUint(token[3:5], 16, 8); err == nil {
				run = append(run, byte(b))
				continue
			}
		}
		flush()
		out = append(out, token)
	}
	flush()
	return out
}
