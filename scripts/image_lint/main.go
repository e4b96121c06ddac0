// What Docker would say about our files, without Docker: BuildKit's parser and checks, the rules of .dockerignore,
// and compose's own loader.
//
//	image_lint CONTEXT FILE…    FILE is a Dockerfile, or a compose file (.yaml) with its .env beside it
//
// Prints a line for each trouble and ends with 1 when there was one.
package main

import (
	"fmt"
	"os"
	"strings"
)

func main() {
	var found []string
	for _, file := range os.Args[2:] {
		check := dockerfile
		if strings.HasSuffix(file, ".yaml") {
			check = compose
		}
		for _, trouble := range check(os.Args[1], file) {
			found = append(found, file+": "+trouble)
		}
	}
	for _, line := range found {
		fmt.Println(line)
	}
	if len(found) > 0 {
		os.Exit(1)
	}
}
