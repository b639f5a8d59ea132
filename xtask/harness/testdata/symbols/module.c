/* Code in two sections and inlined code, for the reader of debug information. From a folder with this as drivers/md/module.c:
 * gcc -g -O2 -c -ffile-prefix-map=$PWD=/build/linux drivers/md/module.c -o module.o
 * gcc -g -O2 -gz -c -ffile-prefix-map=$PWD=/build/linux drivers/md/module.c -o z.o
 * ld -e module_start -Ttext=0xffffffff81000000 --unresolved-symbols=ignore-all -o linked z.o */
int wait_for(int what);

static inline __attribute__((always_inline)) int raise_barrier(int sector)
{
	return wait_for(sector) + 1;
}

int sync_request(int sector)
{
	int barrier = raise_barrier(sector);

	return wait_for(barrier) + 2;
}

__attribute__((section(".init.text"))) int module_start(int n)
{
	return wait_for(n) + sync_request(n);
}

static __attribute__((noinline)) int twice(int n)
{
	return wait_for(n) * 2;
}

int call_twice(int n)
{
	return twice(n) + wait_for(n);
}
