/* SPDX-License-Identifier: GPL-2.0-or-later */
/* verify: are both sides of a protected VM equal?  Exit code 1 when they are not. */
#include "mcctl/client.h"
#include "mcctl/output.h"
#include "mcctl/progress.h"

static void print_differences(const char *vm, const json_t *result)
{
	size_t i;
	const json_t *d;
	char length[FORMAT_MAX];
	json_array_foreach(json_object_get(result, "differences"), i, d)
		printf("%s: %s %s differs at offset %.0f (%s, epoch %.0f)\n", vm,
			get_text(d, "what"), get_text(d, "id"), get_number(d, "offset"),
			format_bytes(get_number(d, "length"), length), get_number(d, "epoch"));
}

int run_verify(const struct mcctl *m, const struct verb_args *args)
{
	struct mc_error err = MC_ERROR_INIT;
	const char *vm = verb_operand(args, 0);
	json_auto_t *result = NULL;
	char path[256], memory[FORMAT_MAX], disk[FORMAT_MAX];
	if (locate_socket(m, path, sizeof path, &err) < 0)
		return output_usage(m, &err);
	__attribute__((cleanup(client_closep))) struct client *c = NULL;
	if (client_open(path, &c, &err) < 0)
		return output_error(m, &err);
	struct progress progress = {.vm = vm};
	int r = client_call(c, "verify", json_pack("{s:s}", "vm", vm), 0, progress_show, &progress,
		&result, &err);
	progress_end(&progress);
	if (r < 0)
		return output_error(m, &err);
	double different = get_number(result, "different");
	if (m->json) {
		output_json(result);
	} else {
		print_differences(vm, result);
		printf("%s: %s of memory and %s of disks compared in epochs %.0f to %.0f: ", vm,
			format_bytes(get_number(result, "memory_bytes"), memory),
			format_bytes(get_number(result, "disk_bytes"), disk),
			get_number(result, "first_epoch"), get_number(result, "last_epoch"));
		if (different > 0)
			printf("%.0f ranges DIFFER\n", different);
		else
			printf("equal\n");
	}
	return different > 0 ? MCCTL_REFUSED : MCCTL_OK;
}
